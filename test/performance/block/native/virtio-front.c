// A virtio-blk driver for a vhost-user backend (VIRTIO 1.1 split ring; docs/interop/vhost-user): the peer's load.
//   virtio-front LOAD-ARGUMENTS… socket
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "load.h"

enum {
  GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10, SET_VRING_KICK = 12, SET_VRING_CALL = 13, GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16,
  SET_VRING_ENABLE = 18,
};
#define F_INDIRECT (1ULL << 28)
#define F_EVENT_IDX (1ULL << 29)
#define F_PROTOCOL (1ULL << 30)
#define F_VERSION_1 (1ULL << 32)
#define F_SEG_MAX (1ULL << 2)

enum { QUEUE = 512, MAX_PAGES = 256 };
enum { NEXT = 1, WRITABLE = 2, INDIRECT = 4 };

struct desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags, next;
};

struct request {
  struct { uint32_t type, reserved; uint64_t sector; } header;
  uint8_t status;
  struct desc table[MAX_PAGES + 2] __attribute__((aligned(16)));
};

// All of the shared memory but the data: guest address = offset.
struct shared {
  struct desc desc[QUEUE];
  struct { uint16_t flags, idx, ring[QUEUE], used_event; } avail __attribute__((aligned(4096)));
  struct { uint16_t flags, idx; struct { uint32_t id, len; } ring[QUEUE]; uint16_t avail_event; } used __attribute__((aligned(4096)));
  struct request requests[MAX_DEPTH] __attribute__((aligned(4096)));
};

static struct load load;
static struct shared *s;
static uint8_t *memory;
static int kick_fd, call_fd;
static uint16_t avail, published, seen;

static void message(int socket_fd, uint32_t request, const void *payload, uint32_t size, int fd) {
  struct { uint32_t request, flags, size; uint8_t payload[256]; } __attribute__((packed)) m = {request, 1, size, {0}};
  if (size > 0) memcpy(m.payload, payload, size);
  struct iovec part = {&m, 12 + size};
  union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
  struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  if (sendmsg(socket_fd, &header, 0) < 0) die("vhost-user");
}

static uint64_t answer(int socket_fd) {
  struct { uint32_t request, flags, size; uint64_t value; } __attribute__((packed)) m;
  if (recv(socket_fd, &m, sizeof m, MSG_WAITALL) != sizeof m) die("vhost-user answer");
  return m.value;
}

static void connect_backend(const char *path, int memory_fd, size_t size) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  message(fd, SET_OWNER, NULL, 0, -1);
  message(fd, GET_FEATURES, NULL, 0, -1);
  const uint64_t offered = answer(fd);
  if (offered & F_PROTOCOL) {
    message(fd, GET_PROTOCOL_FEATURES, NULL, 0, -1);
    answer(fd);
    const uint64_t none = 0;
    message(fd, SET_PROTOCOL_FEATURES, &none, 8, -1);
  }
  const uint64_t wanted = offered & (F_PROTOCOL | F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | F_SEG_MAX);
  if (!(wanted & F_EVENT_IDX) || !(wanted & F_VERSION_1)) die("features");
  message(fd, SET_FEATURES, &wanted, 8, -1);
  struct { uint32_t count, padding; uint64_t gpa, size, uva, offset; } table = {1, 0, 0, size, (uint64_t)(uintptr_t)memory, 0};
  message(fd, SET_MEM_TABLE, &table, sizeof table, memory_fd);
  struct { uint32_t index, value; } vring = {0, QUEUE};
  message(fd, SET_VRING_NUM, &vring, sizeof vring, -1);
  vring.value = 0;
  message(fd, SET_VRING_BASE, &vring, sizeof vring, -1);
  struct { uint32_t index, flags; uint64_t desc, used, avail, log; } where = {
      0, 0, (uint64_t)(uintptr_t)&s->desc, (uint64_t)(uintptr_t)&s->used, (uint64_t)(uintptr_t)&s->avail, 0};
  message(fd, SET_VRING_ADDR, &where, sizeof where, -1);
  const uint64_t queue = 0;
  message(fd, SET_VRING_CALL, &queue, 8, call_fd);
  message(fd, SET_VRING_KICK, &queue, 8, kick_fd);
  vring.value = 1;
  message(fd, SET_VRING_ENABLE, &vring, sizeof vring, -1);
}

static uint64_t offset_of(const void *p) { return (uint64_t)((const uint8_t *)p - memory); }

// The descriptors of a tag never change; only its header does.
static void prepare(unsigned t, uint64_t data) {
  struct request *r = &s->requests[t];
  const uint16_t way = load.write ? 0 : WRITABLE;
  const unsigned last = load.pages + 1;
  r->header.type = load.write ? 1 : 0;
  r->table[0] = (struct desc){offset_of(&r->header), 16, NEXT, 1};
  for (unsigned p = 0; p < load.pages; p++) {
    // Scattered, as the pages of a guest are.
    const unsigned page = load.pages > 1 ? (p * 7 + 3) % load.pages : 0;
    r->table[1 + p] = (struct desc){data + page * 4096ULL, 4096, way | NEXT, (uint16_t)(2 + p)};
  }
  r->table[last] = (struct desc){offset_of(&r->status), 1, WRITABLE, 0};
  s->desc[t] = (struct desc){offset_of(r->table), 16 * (last + 1), INDIRECT, 0};
}

static void submit(unsigned t) {
  s->requests[t].header.sector = load_sector(&load);
  s->requests[t].status = 0xff;
  s->avail.ring[avail++ % QUEUE] = (uint16_t)t;
}

static void publish(void) {
  const uint16_t old = published;
  if (old == avail) return;
  published = avail;
  __atomic_store_n(&s->avail.idx, avail, __ATOMIC_RELEASE);
  FULL_BARRIER();
  const uint16_t event = *(volatile uint16_t *)&s->used.avail_event;
  if ((uint16_t)(avail - event - 1) < (uint16_t)(avail - old)) {
    const uint64_t one = 1;
    if (write(kick_fd, &one, sizeof one) < 0) die("kick");
  }
}

static unsigned collect(void) {
  const uint16_t used = __atomic_load_n(&s->used.idx, __ATOMIC_ACQUIRE);
  if (used == seen) return 0;
  const uint64_t at = ticks();
  unsigned count = 0;
  for (; seen != used; seen++, count++) {
    const uint32_t t = s->used.ring[seen % QUEUE].id;
    if (t >= load.depth || s->requests[t].status != 0) {
      fprintf(stderr, "used element: id %u, status %u\n", t, t < load.depth ? s->requests[t].status : 0);
      exit(3);
    }
    load_done(&load, t, at);
    load.started[t] = at;
    submit(t);
  }
  return count;
}

int main(int argc, char **argv) {
  load_init(&load, argc, argv);
  if (argc < 10 || load.depth > QUEUE || load.pages > MAX_PAGES) die("arguments");
  const size_t data = (sizeof(struct shared) + 4095) & ~4095UL;
  const size_t size = (data + (size_t)load.depth * load.pages * 4096 + (2UL << 20)) & ~((2UL << 20) - 1);
  const int memory_fd = (int)syscall(SYS_memfd_create, "virtio-front", 0);
  if (memory_fd < 0 || ftruncate(memory_fd, (off_t)size) < 0) die("memory");
  memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory_fd, 0);
  if (memory == MAP_FAILED) die("memory");
  s = (struct shared *)memory;
  kick_fd = eventfd(0, EFD_NONBLOCK);
  call_fd = eventfd(0, 0);
  for (unsigned t = 0; t < load.depth; t++) prepare(t, data + (uint64_t)t * load.pages * 4096);
  connect_backend(argv[9], memory_fd, size);
  usleep(100000);

  const uint64_t first = ticks();
  for (unsigned t = 0; t < load.depth; t++) {
    load.started[t] = first;
    submit(t);
  }
  s->avail.used_event = load.event ? 0 : 0x8000;
  publish();
  for (;;) {
    if (collect() > 0) {
      if (!load.event) s->avail.used_event = (uint16_t)(seen + 0x8000);
      publish();
    } else if (load.event) {
      s->avail.used_event = seen;
      FULL_BARRIER();
      if (*(volatile uint16_t *)&s->used.idx == seen) {
        sleep_on(call_fd);
      }
    } else {
      RELAX();
    }
    if (load_over(&load, ticks())) break;
  }
  load_print(&load);
  return 0;
}
