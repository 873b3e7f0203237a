/* The link between two hosts on two machines: frames and answers over UDP, and leases instead of a shared fence.
 *
 * A follower answers every frame; the answer is its promise not to lead before `lease` has passed since the frame came.
 * The leader may drive for `lease` since it sent that frame, which always ends earlier, and the drivers on its machine
 * look at the same time limit themselves: a leader that is cut off, or frozen, drives nothing when the follower begins.
 * Clocks are never compared, they only have to run at the same speed.
 *
 * Two hosts that do not hear each other cannot tell a broken link from a dead host. With a witness, a leader drives
 * while the follower or the witness lets it, and a follower needs the witness to take over. Without one, a leader that
 * has a follower stops driving when it hears no more of it; it goes on alone only after the follower said good-bye,
 * after it took over itself, or when an operator says so.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "standby.h"

#define PACKET_MAGIC 0x31504C56u /* "VLP1" */
#define CHUNK 1200               /* of a frame in one datagram: below any usual link's limit */
#define FRAGMENTS 128
#define SENT 64
#define EXPEDITED 0xB8 /* DSCP EF, RFC 3246 */

enum kind { FRAME = 1, ACK = 2, HELLO = 3, LEAVE = 4, ASK = 5, GRANT = 6, DENY = 7 };

struct packet {
  uint32_t magic;
  uint16_t kind, side;
  uint32_t epoch, ready;
  uint32_t fragment, fragments, total, spare;
  uint64_t sequence, life, pair, lease_ns;
  uint8_t data[CHUNK];
};

#define HEAD offsetof(struct packet, data)

struct network {
  int fd;
  struct sockaddr_storage peer, witness;
  socklen_t peer_size, witness_size; /* 0: no witness */
  uint64_t pair;
  uint8_t *outgoing, *incoming;
  size_t outgoing_size;
  uint64_t incoming_sequence;
  uint32_t incoming_epoch, incoming_total, got, known_epoch;
  bool have[FRAGMENTS];
  struct {
    uint64_t sequence;
    int64_t at;
  } sent[SENT];
  /* leading */
  int64_t lease_end, witness_end;
  bool alone; /* nobody could take over */
  int64_t ready_heard;
  bool handing_over;
  /* following */
  int64_t promise_end, leader_heard, idle_heard;
  bool handed_over; /* by the leader, to this host */
  /* the witness's answers */
  uint64_t asked_number;
  int64_t asked_at;
  bool granted;
};

static struct network *network_of(struct host *host) { return host->pair->detail; }

/* ---- sockets ---- */

static socklen_t parse(const char *text, struct sockaddr_storage *out) {
  char copy[128];
  snprintf(copy, sizeof copy, "%s", text);
  char *colon = strrchr(copy, ':');
  if (!colon) return 0;
  *colon = 0;
  char *name = copy;
  if (*name == '[' && colon[-1] == ']') name++, colon[-1] = 0;
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  memset(out, 0, sizeof *out);
  uint16_t port = htons((uint16_t)atoi(colon + 1));
  if (inet_pton(AF_INET, name, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = port;
    return sizeof *v4;
  }
  if (inet_pton(AF_INET6, name, &v6->sin6_addr) != 1) return 0;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = port;
  return sizeof *v6;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  const struct sockaddr_in *p = (const struct sockaddr_in *)a, *q = (const struct sockaddr_in *)b;
  const struct sockaddr_in6 *r = (const struct sockaddr_in6 *)a, *s = (const struct sockaddr_in6 *)b;
  if (a->ss_family != b->ss_family) return false;
  if (a->ss_family == AF_INET) return p->sin_port == q->sin_port && p->sin_addr.s_addr == q->sin_addr.s_addr;
  return r->sin6_port == s->sin6_port && memcmp(&r->sin6_addr, &s->sin6_addr, sizeof r->sin6_addr) == 0;
}

static uint64_t hash_of(const char *text) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 0x100000001B3ull;
  return hash;
}

static bool network_open(struct host *host) {
  struct pair *p = host->pair;
  const struct plan *plan = host->program.plan;
  const char *listen = at(plan, plan->listen_at), *peer = at(plan, plan->peer_at), *witness = at(plan, plan->witness_at);
  struct network *n = p->detail = calloc(1, sizeof *n);
  if (!n) return false;
  p->frame_room = CHUNK * FRAGMENTS;
  if (!pair_has_room(host, plan)) {
    say("the program's state of %u bytes is too large to stream", plan->state_size);
    return false;
  }
  n->outgoing = calloc(2, p->frame_room);
  if (!n->outgoing || getrandom(&p->life, sizeof p->life, 0) != (ssize_t)sizeof p->life) return false;
  p->life |= 1;
  n->incoming = n->outgoing + p->frame_room;
  n->pair = hash_of(at(plan, plan->name_at));
  struct sockaddr_storage own;
  socklen_t size = parse(listen, &own);
  n->peer_size = parse(peer, &n->peer);
  n->witness_size = parse(witness, &n->witness);
  n->fd = socket(own.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int tos = EXPEDITED, room = 1 << 20, yes = 1;
  if (n->fd >= 0) {
    setsockopt(n->fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    setsockopt(n->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(n->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  }
  if (!size || !n->peer_size || n->fd < 0 || bind(n->fd, (struct sockaddr *)&own, size) != 0) {
    say("cannot listen on %s: %s", listen, strerror(errno));
    return false;
  }
  return true;
}

static struct packet head(struct host *host, enum kind kind) {
  struct network *n = network_of(host);
  return (struct packet){.magic = PACKET_MAGIC,
                         .kind = (uint16_t)kind,
                         .side = (uint16_t)host->pair->side,
                         .epoch = host->duty == LEADING ? host->epoch : n->known_epoch,
                         .ready = host->duty == FOLLOWING && host->pair->ready,
                         .life = host->pair->life,
                         .pair = n->pair,
                         .lease_ns = (uint64_t)host->pair->lease};
}

static void say_to(struct host *host, bool witness, const struct packet *packet) {
  struct network *n = network_of(host);
  /* What the system does not take is lost like a datagram on the way. */
  (void)!sendto(n->fd, packet, HEAD, MSG_DONTWAIT, (struct sockaddr *)(witness ? &n->witness : &n->peer),
                witness ? n->witness_size : n->peer_size);
}

static void ask(struct host *host, uint32_t epoch) {
  struct network *n = network_of(host);
  struct packet packet = head(host, ASK);
  packet.epoch = epoch;
  packet.sequence = ++n->asked_number;
  n->asked_at = image_now();
  n->granted = false;
  say_to(host, true, &packet);
}

/* ---- what comes in ---- */

static bool collect(struct host *host, const struct packet *packet, size_t size) {
  struct network *n = network_of(host);
  uint32_t total = packet->total, count = (total + CHUNK - 1) / CHUNK;
  size_t at = (size_t)packet->fragment * CHUNK;
  if (!total || total > host->pair->frame_room || packet->fragments != count || packet->fragment >= count) return false;
  size_t part = total - at < CHUNK ? total - at : CHUNK;
  if (size != HEAD + part) return false;
  if (packet->epoch < n->incoming_epoch || (packet->epoch == n->incoming_epoch && packet->sequence < n->incoming_sequence))
    return false; /* overtaken by a newer one */
  if (packet->epoch != n->incoming_epoch || packet->sequence != n->incoming_sequence || total != n->incoming_total) {
    n->incoming_epoch = packet->epoch;
    n->incoming_sequence = packet->sequence;
    n->incoming_total = total;
    n->got = 0;
    memset(n->have, 0, sizeof n->have);
  }
  if (n->have[packet->fragment]) return false;
  n->have[packet->fragment] = true;
  memcpy(n->incoming + at, packet->data, part);
  return ++n->got == count;
}

static void answer_frame(struct host *host, uint64_t sequence, uint32_t epoch) {
  struct network *n = network_of(host);
  struct packet packet = head(host, ACK);
  packet.sequence = sequence;
  packet.epoch = epoch;
  n->promise_end = image_now() + host->pair->lease + host->pair->interval / 4;
  say_to(host, false, &packet);
}

static void answered(struct host *host, const struct packet *packet) {
  struct network *n = network_of(host);
  int64_t now = image_now();
  for (uint32_t i = 0; i < SENT; i++)
    if (n->sent[i].sequence == packet->sequence && n->sent[i].at + host->pair->lease > n->lease_end)
      n->lease_end = n->sent[i].at + host->pair->lease;
  if (!packet->ready) return; /* it cannot take over, so nothing depends on it */
  n->ready_heard = now;
  host->pair->leased_to = packet->life;
  n->alone = false;
}

static void decided(struct host *host, const struct packet *packet) {
  struct network *n = network_of(host);
  if (packet->epoch > n->known_epoch && packet->kind == DENY) n->known_epoch = packet->epoch;
  if (packet->sequence != n->asked_number || packet->kind != GRANT) return;
  n->granted = true;
  n->witness_end = n->asked_at + host->pair->lease;
}

/* One datagram; true: a frame of the leader is whole. */
static bool handle(struct host *host, const struct packet *packet, size_t size, const struct sockaddr_storage *from) {
  struct network *n = network_of(host);
  if (size < HEAD || packet->magic != PACKET_MAGIC || packet->pair != n->pair) return false;
  if (packet->kind == GRANT || packet->kind == DENY) {
    if (n->witness_size && same_address(from, &n->witness)) decided(host, packet);
    return false;
  }
  if (!same_address(from, &n->peer) || packet->side == host->pair->side) return false;
  bool newer = packet->epoch > n->known_epoch;
  if (newer && packet->epoch <= MAX_EPOCH) n->known_epoch = packet->epoch;
  switch (packet->kind) {
    case FRAME:
      if (packet->epoch != n->known_epoch || host->duty != FOLLOWING) return false;
      n->handing_over = false;
      if (!collect(host, packet, size)) return false;
      n->leader_heard = image_now();
      answer_frame(host, packet->sequence, packet->epoch);
      return true;
    case ACK:
      if (host->duty == LEADING && packet->epoch == host->epoch) answered(host, packet);
      return false;
    case HELLO:
      if (!packet->ready) n->idle_heard = image_now();
      return false;
    case LEAVE: /* it cannot take over any more */
      host->pair->leased_to = 0;
      n->ready_heard = 0;
      n->alone = true;
      return false;
    default:
      return false;
  }
}

/* All that has come; true: a frame is whole (later datagrams stay for the next time). */
static bool drain(struct host *host) {
  struct packet packet;
  struct sockaddr_storage from;
  for (int i = 0; i < 4 * FRAGMENTS; i++) {
    socklen_t length = sizeof from;
    ssize_t size = recvfrom(network_of(host)->fd, &packet, sizeof packet, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (size < 0) return false;
    if (handle(host, &packet, (size_t)size, &from)) return true;
  }
  return false;
}

static const struct frame *network_receive(struct host *host, int64_t until, int64_t *offset, size_t *size) {
  struct network *n = network_of(host);
  for (;;) {
    bool whole = drain(host);
    int64_t now = image_now(), left = until - now;
    if (whole && n->incoming_total >= sizeof(struct frame)) {
      const struct frame *f = (const struct frame *)(void *)n->incoming;
      *offset = (int64_t)((uint64_t)now - (uint64_t)f->sent_ns);
      *size = n->incoming_total;
      n->handed_over = f->flags & FRAME_HANDOVER;
      return f;
    }
    if (left <= 0 || atomic_load(&host->stop)) return NULL;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    struct pollfd wait = {.fd = n->fd, .events = POLLIN};
    ppoll(&wait, 1, &t, NULL);
  }
}

/* ---- who leads ---- */

static int64_t drive_until(struct host *host) {
  struct network *n = network_of(host);
  if (host->duty != LEADING) return 0;
  if (n->alone && !n->witness_size) return INT64_MAX;
  return n->lease_end > n->witness_end ? n->lease_end : n->witness_end;
}

static bool network_may_begin(struct host *host) {
  struct network *n = network_of(host);
  struct pair *p = host->pair;
  int64_t now = image_now();
  if (n->leader_heard && now - n->leader_heard < p->grace) return false;
  if (n->witness_size) return p->prefers || now - p->since > p->grace;
  /* Without a witness only a word of the other host makes sure that it does not lead. */
  return p->prefers && n->idle_heard && now - n->idle_heard < 2 * p->interval && now - p->since > 2 * p->interval;
}

static bool network_claim(struct host *host) {
  struct network *n = network_of(host);
  struct pair *p = host->pair;
  int64_t now = image_now();
  uint32_t epoch = n->known_epoch, shown = atomic_load(&host->image->epoch);
  epoch = (epoch > shown ? epoch : shown) + 1;
  if (epoch > MAX_EPOCH) return false;
  if (!n->handed_over) {
    if (p->ready && (!p->leased || now < n->promise_end)) return false;
    if (n->witness_size && now >= n->witness_end) {
      if (now - n->asked_at > 1000000 || n->granted) ask(host, epoch);
      return false;
    }
  }
  n->lease_end = n->handed_over ? now + p->lease : 0; /* the one that handed over promised as much */
  n->handed_over = false;
  n->alone = true;
  n->ready_heard = 0;
  p->leased_to = 0;
  n->known_epoch = host->epoch = epoch;
  return true;
}

static bool network_leads(struct host *host) {
  struct network *n = network_of(host);
  drain(host);
  if (n->known_epoch > host->epoch) {
    atomic_store(&host->image->drive_until_ns, 0);
    return false;
  }
  return true;
}

static bool network_may_drive(struct host *host) {
  int64_t until = drive_until(host);
  atomic_store(&host->image->drive_until_ns, until);
  return image_now() < until;
}

static struct frame *network_room(struct host *host) { return (struct frame *)(void *)network_of(host)->outgoing; }

static bool network_send(struct host *host, const struct frame *frame, size_t size) {
  struct network *n = network_of(host);
  static struct packet packets[FRAGMENTS];
  static struct mmsghdr messages[FRAGMENTS];
  static struct iovec parts[FRAGMENTS];
  uint32_t count = (uint32_t)((size + CHUNK - 1) / CHUNK);
  n->outgoing_size = size;
  if (frame->flags & FRAME_HANDOVER) atomic_store(&host->image->drive_until_ns, 0); /* before anybody else may */
  for (uint32_t i = 0; i < count; i++) {
    size_t at = (size_t)i * CHUNK, part = size - at < CHUNK ? size - at : CHUNK;
    packets[i] = head(host, FRAME);
    packets[i].epoch = frame->epoch;
    packets[i].sequence = frame->sequence;
    packets[i].fragment = i;
    packets[i].fragments = count;
    packets[i].total = (uint32_t)size;
    memcpy(packets[i].data, (const uint8_t *)frame + at, part);
    parts[i] = (struct iovec){.iov_base = &packets[i], .iov_len = HEAD + part};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = &n->peer, .msg_namelen = n->peer_size, .msg_iov = &parts[i], .msg_iovlen = 1};
  }
  n->sent[frame->sequence % SENT].sequence = frame->sequence;
  n->sent[frame->sequence % SENT].at = frame->sent_ns;
  bool sent = sendmmsg(n->fd, messages, count, MSG_DONTWAIT) == (int)count;
  if (n->witness_size && host->duty == LEADING && !(frame->flags & FRAME_HANDOVER)) ask(host, host->epoch);
  return sent;
}

static void network_driven(struct host *host, uint64_t sequence) { (void)host, (void)sequence; }

static bool network_follower_ready(struct host *host) {
  struct network *n = network_of(host);
  return n->ready_heard && image_now() - n->ready_heard < 10 * host->pair->interval;
}

static void network_alive(struct host *host) {
  struct network *n = network_of(host);
  if (host->duty == LEADING) {
    network_may_drive(host);
    return;
  }
  atomic_store(&host->image->drive_until_ns, 0);
  int64_t now = image_now();
  if (n->handing_over && n->outgoing_size) network_send(host, network_room(host), n->outgoing_size);
  if (now - n->leader_heard > 3 * host->pair->interval) {
    struct packet packet = head(host, HELLO);
    say_to(host, false, &packet);
  }
}

/* The leader gave up: it promises what an answer promises, and repeats itself until the other one leads. */
static void network_gave_up(struct host *host, bool asked) {
  struct network *n = network_of(host);
  atomic_store(&host->image->drive_until_ns, 0);
  n->handing_over = asked;
  n->promise_end = image_now() + host->pair->lease + host->pair->interval / 4;
  n->leader_heard = asked ? image_now() : n->leader_heard;
  host->pair->leased = host->pair->ready = false;
}

static void network_go_alone(struct host *host) { network_of(host)->alone = true; }

static void network_identified(struct host *host) { (void)host; }

static void network_leave(struct host *host) {
  struct packet packet = head(host, LEAVE);
  atomic_store(&host->image->drive_until_ns, 0);
  for (int i = 0; i < 3 && host->duty == FOLLOWING && !network_of(host)->handing_over; i++) say_to(host, false, &packet);
}

const struct link network_link = {
    .open = network_open,
    .may_begin = network_may_begin,
    .receive = network_receive,
    .claim = network_claim,
    .leads = network_leads,
    .may_drive = network_may_drive,
    .room = network_room,
    .send = network_send,
    .driven = network_driven,
    .follower_ready = network_follower_ready,
    .alive = network_alive,
    .gave_up = network_gave_up,
    .go_alone = network_go_alone,
    .identified = network_identified,
    .leave = network_leave,
};
