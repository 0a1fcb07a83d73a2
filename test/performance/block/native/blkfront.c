// A block frontend (public/io/blkif.h, 64-bit layout) that keeps a ring of shared guest memory busy.
//   blkfront LOAD-ARGUMENTS… memory-fd kick-fd call-fd < layout
// The layout on standard input: "ring SLOTS OFFSET…", then for each tag "tag INDIRECT-GREF INDIRECT-OFFSET GREF…".
// Every request of a tag uses the tag's own pages, granted for good.
#include <sys/mman.h>
#include <sys/stat.h>

#include "load.h"

enum { OP_READ = 0, OP_WRITE = 1, OP_INDIRECT = 6 };
enum { MAX_PAGES = 256, DIRECT = 11, SLOT_BYTES = 112, HEADER_BYTES = 64 };

struct tag {
  uint32_t indirect_gref;
  uint32_t gref[MAX_PAGES];
};

static struct load load;
static uint8_t *ram;
static unsigned slots, ring_pages;
static uint64_t ring_page[16];
static struct tag tags[MAX_DEPTH];
static volatile uint32_t *head;  // req_prod, req_event, rsp_prod, rsp_event
static uint32_t req_prod, req_published, rsp_cons;

static uint8_t *slot(uint32_t index) {
  const uint64_t at = HEADER_BYTES + (uint64_t)(index & (slots - 1)) * SLOT_BYTES;
  return ram + ring_page[at >> 12] + (at & 4095);
}

// A slot of a ring of several pages may straddle two that do not lie together.
static void slot_write(uint32_t index, const void *from, size_t length) {
  const uint64_t at = HEADER_BYTES + (uint64_t)(index & (slots - 1)) * SLOT_BYTES;
  const size_t room = 4096 - (at & 4095);
  if (length <= room) {
    memcpy(slot(index), from, length);
    return;
  }
  memcpy(slot(index), from, room);
  memcpy(ram + ring_page[(at >> 12) + 1], (const uint8_t *)from + room, length - room);
}

static void slot_read(uint32_t index, void *into, size_t length) {
  const uint64_t at = HEADER_BYTES + (uint64_t)(index & (slots - 1)) * SLOT_BYTES;
  const size_t room = 4096 - (at & 4095);
  if (length <= room) {
    memcpy(into, slot(index), length);
    return;
  }
  memcpy(into, slot(index), room);
  memcpy((uint8_t *)into + room, ram + ring_page[(at >> 12) + 1], length - room);
}

static void read_layout(void) {
  static char line[1 << 16];
  if (fgets(line, sizeof line, stdin) == NULL || strncmp(line, "ring ", 5) != 0) die("layout");
  char *at = line + 5;
  slots = (unsigned)strtoul(at, &at, 10);
  while (*at != '\n' && ring_pages < 16) ring_page[ring_pages++] = strtoull(at, &at, 10);
  for (unsigned t = 0; t < load.depth; t++) {
    if (fgets(line, sizeof line, stdin) == NULL || strncmp(line, "tag ", 4) != 0) die("layout");
    at = line + 4;
    tags[t].indirect_gref = (uint32_t)strtoul(at, &at, 10);
    const uint64_t list = strtoull(at, &at, 10);
    uint32_t *segment = (uint32_t *)(ram + list);
    for (unsigned p = 0; p < load.pages; p++) {
      tags[t].gref[p] = (uint32_t)strtoul(at, &at, 10);
      if (load.pages <= DIRECT) continue;
      segment[2 * p] = tags[t].gref[p];
      segment[2 * p + 1] = 7 << 8;
    }
  }
}

static void submit(unsigned t) {
  uint32_t words[28];
  const uint64_t sector = load_sector(&load);
  const unsigned op = load.write ? OP_WRITE : OP_READ;
  size_t length;
  words[2] = t;
  words[3] = 0;
  words[4] = (uint32_t)sector;
  words[5] = (uint32_t)(sector >> 32);
  if (load.pages <= DIRECT) {
    words[0] = op | load.pages << 8;
    words[1] = 0;
    for (unsigned p = 0; p < load.pages; p++) {
      words[6 + 2 * p] = tags[t].gref[p];
      words[7 + 2 * p] = 7 << 8;
    }
    length = 24 + 8 * load.pages;
  } else {
    words[0] = OP_INDIRECT | op << 8 | load.pages << 16;
    words[1] = 0;
    words[6] = 0;
    words[7] = tags[t].indirect_gref;
    length = 32;
  }
  slot_write(req_prod++, words, length);
}

static void publish(int kick_fd) {
  const uint32_t old = req_published;
  if (old == req_prod) return;
  req_published = req_prod;
  __atomic_store_n(&head[0], req_prod, __ATOMIC_RELEASE);
  FULL_BARRIER();
  if (req_prod - head[1] < req_prod - old) {
    const uint64_t one = 1;
    if (write(kick_fd, &one, sizeof one) < 0) die("kick");
  }
}

// Responses taken; their tags are submitted anew.
static unsigned collect(void) {
  const uint32_t prod = __atomic_load_n(&head[2], __ATOMIC_ACQUIRE);
  if (prod == rsp_cons) return 0;
  const uint64_t at = ticks();
  unsigned count = 0;
  for (; rsp_cons != prod; rsp_cons++, count++) {
    uint32_t words[4];
    slot_read(rsp_cons, words, sizeof words);
    const unsigned t = words[0];
    if (t >= load.depth || (words[2] >> 16) != 0) {
      fprintf(stderr, "response %u: id %u, word %x\n", rsp_cons, t, words[2]);
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
  if (argc < 12 || load.depth > MAX_DEPTH || load.pages > MAX_PAGES) die("arguments");
  const int memory_fd = atoi(argv[9]), kick_fd = atoi(argv[10]), call_fd = atoi(argv[11]);
  struct stat stat;
  if (fstat(memory_fd, &stat) < 0) die("memory");
  ram = mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory_fd, 0);
  if (ram == MAP_FAILED) die("memory");
  read_layout();
  head = (volatile uint32_t *)(ram + ring_page[0]);
  req_prod = req_published = head[0];
  rsp_cons = head[2];

  head[3] = load.event ? rsp_cons + 1 : rsp_cons + 0x80000000u;
  const uint64_t first = ticks();
  for (unsigned t = 0; t < load.depth; t++) {
    load.started[t] = first;
    submit(t);
  }
  publish(kick_fd);
  for (;;) {
    if (collect() > 0) {
      if (!load.event) head[3] = rsp_cons + 0x80000000u;
      publish(kick_fd);
    } else if (load.event) {
      head[3] = rsp_cons + 1;
      FULL_BARRIER();
      if (head[2] == rsp_cons) {
        sleep_on(call_fd);
      }
    } else {
      RELAX();
    }
    if (load_over(&load, ticks())) break;
  }
  load_print(&load);
  // What is still under way comes back before the pages go.
  head[3] = rsp_cons + 0x80000000u;
  while (rsp_cons != req_published) {
    rsp_cons += head[2] - rsp_cons;
    usleep(1000);
  }
  return 0;
}
