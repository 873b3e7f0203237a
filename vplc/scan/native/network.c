#include "standby.h"
const struct link network_link = {0};
