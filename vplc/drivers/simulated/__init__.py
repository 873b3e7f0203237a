"""A plant that is not there: a model in real time instead of a device, for tests, demonstrations and commissioning."""
