/*
 * The ceiling: the backend's own loop (backends/net) in C. Rings, grants pinned and released with the same locked
 * operations, header copies, vectored writes and reads through io_uring, spin before sleep. What it does not have is
 * what a benign frontend never asks for: errors are fatal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

#define TAGS RING_SLOTS
#define MAX_SLOTS 18
#define HEADER_COPY 128
#define PASS_SLOTS 64
#define MAX_READS 32
#define SPIN_S 50e-6
#define NOWAIT 8

enum { KIND_TX = 1, KIND_RX, KIND_LINK, KIND_KICK };

/* A pinned grant, as shim/grant-table/active.ts has it: owned by this thread, with the frame of the first pin. */
struct active {
  uint32_t pins;
  uint32_t frame;
};
static struct active actives[GRANT_REFS];
static _Atomic uint32_t *entries;
static _Atomic uint32_t inside;

static uint8_t *map_grant(uint32_t ref, int readonly) {
  if (ref >= GRANT_REFS) return NULL;
  struct active *active = &actives[ref];
  if (active->pins == 0) {
    uint32_t seen = atomic_load(&entries[2 * ref]);
    uint32_t set = readonly ? GTF_READING : GTF_READING | GTF_WRITING;
    if ((seen & 0xffff0003) != GTF_PERMIT || (!readonly && (seen & GTF_READONLY))) return NULL;
    if (!atomic_compare_exchange_strong(&entries[2 * ref], &seen, seen | set)) return NULL;
    active->frame = atomic_load(&entries[2 * ref + 1]);
    if (active->frame >= RAM_BYTES / PAGE) return NULL;
  }
  active->pins++;
  return ram + (size_t)active->frame * PAGE;
}

static void unmap_grant(uint32_t ref) {
  struct active *active = &actives[ref];
  if (--active->pins == 0) atomic_fetch_and(&entries[2 * ref], ~(GTF_READING | GTF_WRITING));
}

static struct sring *tx, *rx;

/* Transmit. */

struct packet {
  struct iovec vector[MAX_SLOTS + 1];
  uint32_t ref[MAX_SLOTS];
  uint16_t id[MAX_SLOTS];
  uint16_t slots, extras, flags, size0;
  struct vnet vnet;
  uint8_t head[HEADER_COPY];
};
static struct packet packets[TAGS];
static int free_tags[TAGS], free_count, done[TAGS], done_count;
static uint32_t tx_cons, tx_rsp, tx_published;

static int parse_headers(struct packet *packet, int length, int gso_size) {
  const uint8_t *head = packet->head;
  packet->vnet = (struct vnet){0};
  if (gso_size == 0 && !(packet->flags & TX_CSUM_BLANK)) return 1;
  if (length < ETH_IP_TCP || head[12] != 8 || head[13] != 0 || head[14] >> 4 != 4) return 0;
  int ip = (head[14] & 15) * 4, transport = 14 + ip;
  if (ip < 20 || ((head[20] & 0x3f) | head[21]) != 0 || head[23] != 6 || transport + 20 > length) return 0;
  packet->vnet = (struct vnet){.flags = 1, .csum_start = transport, .csum_offset = 16};
  if (gso_size == 0) return 1;
  packet->vnet.gso_type = 1;
  packet->vnet.gso_size = gso_size;
  packet->vnet.hdr_len = transport + (head[transport + 12] >> 4) * 4;
  return packet->vnet.hdr_len <= length;
}

static void send_packet(int tag, uint32_t prod) {
  struct packet *packet = &packets[tag];
  struct tx_request slot = tx->tx[tx_cons++ % RING_SLOTS];
  uint16_t offset[MAX_SLOTS], size[MAX_SLOTS];
  int gso_size = 0, left = slot.size, count = 0, more = slot.flags & TX_MORE;
  packet->flags = slot.flags;
  packet->extras = 0;
  packet->ref[0] = slot.gref, packet->id[0] = slot.id, offset[0] = slot.offset;
  if (slot.flags & TX_EXTRA) {
    uint8_t extra[8];
    memcpy(extra, tx->tx_slot[tx_cons++ % RING_SLOTS], sizeof extra);
    if (extra[0] != 1 || extra[1] != 0) exit(1);
    gso_size = extra[2] | extra[3] << 8;
    packet->extras = 1;
  }
  while (more) {
    if (tx_cons == prod || ++count == MAX_SLOTS) exit(1);
    slot = tx->tx[tx_cons++ % RING_SLOTS];
    packet->ref[count] = slot.gref, packet->id[count] = slot.id;
    offset[count] = slot.offset, size[count] = slot.size;
    left -= slot.size;
    more = slot.flags & TX_MORE;
  }
  if (left < 14) exit(1);
  size[0] = left;
  packet->slots = count + 1;
  int copied = 0, parts = 1;
  for (int i = 0; i < packet->slots; i++) {
    uint8_t *page = map_grant(packet->ref[i], 1);
    if (page == NULL || offset[i] + size[i] > PAGE) exit(1);
    int head = i > 0 ? 0 : size[0] < HEADER_COPY ? size[0] : HEADER_COPY;
    memcpy(packet->head, page + offset[i], head);
    copied += head;
    if (size[i] > head) packet->vector[parts++] = (struct iovec){page + offset[i] + head, size[i] - head};
  }
  if (!parse_headers(packet, copied, gso_size)) exit(1);
  packet->vector[0] = (struct iovec){&packet->vnet, VNET + copied};
  uring_push(IORING_OP_WRITEV, packet->vector, parts, (uint64_t)KIND_TX << 32 | tag, NOWAIT);
}

static int consume(void) {
  uint32_t prod = __atomic_load_n(&tx->req_prod, __ATOMIC_SEQ_CST), start = tx_cons;
  if (prod == tx_cons) return 0;
  if (prod - tx_rsp > RING_SLOTS) exit(1);
  atomic_store(&inside, 1);
  while (tx_cons != prod && free_count > 0 && tx_cons - start < PASS_SLOTS) send_packet(free_tags[--free_count], prod);
  atomic_store_explicit(&inside, 0, memory_order_release);
  return tx_cons - start;
}

static void respond(void) {
  if (done_count == 0) return;
  atomic_store(&inside, 1);
  for (int i = 0; i < done_count; i++)
    for (int k = 0; k < packets[done[i]].slots; k++) unmap_grant(packets[done[i]].ref[k]);
  atomic_store_explicit(&inside, 0, memory_order_release);
  for (int i = 0; i < done_count; i++) {
    struct packet *packet = &packets[done[i]];
    for (int k = 0; k < packet->slots; k++) {
      *(struct tx_response *)tx->tx_slot[tx_rsp++ % RING_SLOTS] = (struct tx_response){packet->id[k], 0};
      for (int extra = 0; k == 0 && extra < packet->extras; extra++)
        *(struct tx_response *)tx->tx_slot[tx_rsp++ % RING_SLOTS] = (struct tx_response){0, 1};
    }
    free_tags[free_count++] = done[i];
  }
  done_count = 0;
}

/* Receive: straight from the tap into posted pages, as many of them a read as the last frame took. */

struct reading {
  struct iovec vector[MAX_SLOTS + 2];
  uint32_t ref[MAX_SLOTS];
  uint16_t id[MAX_SLOTS];
  int result;
  struct vnet vnet;
  uint8_t spill[17 * PAGE];
};
static struct reading readings[MAX_READS];
/* What the next frames are expected to be like: the last one. */
static int reads, batch = 1, expected = 1, expected_gso;
static uint32_t rx_cons, rx_rsp, rx_published;

static void read_frame(int tag, int pages) {
  struct reading *reading = &readings[tag];
  reading->vector[0] = (struct iovec){&reading->vnet, VNET};
  for (int k = 0; k < pages; k++) {
    /* The slot after the first is the segment size's, if there is one. */
    struct rx_request slot = rx->rx[(rx_cons + k + (k > 0 ? expected_gso : 0)) % RING_SLOTS];
    reading->ref[k] = slot.gref, reading->id[k] = slot.id;
    uint8_t *page = map_grant(slot.gref, 0);
    if (page == NULL) exit(1);
    reading->vector[1 + k] = (struct iovec){page, PAGE};
  }
  reading->vector[1 + pages] = (struct iovec){reading->spill, sizeof reading->spill};
  uring_push(IORING_OP_READV, reading->vector, pages + 2, (uint64_t)KIND_RX << 32 | tag, NOWAIT);
}

static int slots_expected(void) { return expected + expected_gso; }

static uint32_t read_at[MAX_READS];
static int pages_at[MAX_READS];

static void fill(void) {
  uint32_t prod = __atomic_load_n(&rx->req_prod, __ATOMIC_SEQ_CST);
  int posted = prod - rx_cons, slots = slots_expected();
  if (prod - rx_rsp > RING_SLOTS) exit(1);
  reads = 0;
  if (posted < slots) return;
  uint32_t start = rx_cons;
  atomic_store(&inside, 1);
  while (reads < batch && posted >= slots && rx_cons - start < PASS_SLOTS) {
    read_at[reads] = rx_cons;
    pages_at[reads] = expected;
    read_frame(reads, expected);
    rx_cons += slots;
    posted -= slots;
    reads++;
  }
  atomic_store_explicit(&inside, 0, memory_order_release);
}

static int deliver(void) {
  if (reads == 0) return 0;
  atomic_store(&inside, 1);
  for (int i = 0; i < reads; i++)
    for (int k = 0; k < pages_at[i]; k++) unmap_grant(readings[i].ref[k]);
  atomic_store_explicit(&inside, 0, memory_order_release);
  int delivered = 0;
  for (int i = 0; i < reads; i++) {
    struct reading *reading = &readings[delivered];
    if (readings[i].result < 0) continue;
    /* The tap may have been empty for one read and not for the next: what came later moves up. */
    if (i != delivered) {
      reading->result = readings[i].result;
      reading->vnet = readings[i].vnet;
      for (int k = 0; k < pages_at[i]; k++)
        memcpy(reading->vector[1 + k].iov_base, readings[i].vector[1 + k].iov_base, PAGE);
    }
    int length = reading->result - VNET, pages = pages_of(length), gso = reading->vnet.gso_type != 0;
    if (pages != expected || gso != expected_gso) {
      /* Only while the first frames show what to expect: they are lost, as a full ring would lose them. */
      expected = pages;
      expected_gso = gso;
      break;
    }
    for (int k = 0; k < pages; k++) {
      int part = length < PAGE ? length : PAGE;
      int flags = k == pages - 1 ? 0 : RX_MORE;
      if (k == 0) flags |= (reading->vnet.flags & 1 ? RX_CSUM_BLANK | RX_DATA_VALIDATED : 0) | (gso ? RX_EXTRA : 0);
      rx->rx_rsp[rx_rsp++ % RING_SLOTS] = (struct rx_response){reading->id[k], 0, flags, part};
      length -= part;
      if (k > 0 || !gso) continue;
      uint8_t extra[8] = {1, 0, reading->vnet.gso_size, reading->vnet.gso_size >> 8, 1};
      memcpy(rx->rx_slot[rx_rsp++ % RING_SLOTS], extra, sizeof extra);
    }
    delivered++;
  }
  if (delivered < reads) rx_cons = read_at[delivered];
  batch = delivered < reads ? 1 : batch * 2 > MAX_READS ? MAX_READS : batch * 2;
  return delivered;
}

static void publish(struct sring *ring, uint32_t *published, uint32_t prod) {
  uint32_t old = *published;
  if (old == prod) return;
  __atomic_store_n(&ring->rsp_prod, prod, __ATOMIC_SEQ_CST);
  *published = prod;
  if (prod - __atomic_load_n(&ring->rsp_event, __ATOMIC_SEQ_CST) >= prod - old) return;
  uint64_t one = 1;
  if (write(CALL_FD, &one, sizeof one) < 0) die("call");
}

static int kick_armed, link_armed;

static void reap(void) {
  uint64_t user;
  int result;
  unsigned flags;
  while (uring_next(&user, &result, &flags)) {
    switch (user >> 32) {
      case KIND_TX: done[done_count++] = (uint32_t)user; break;
      case KIND_RX: readings[(uint32_t)user].result = result; break;
      case KIND_LINK: link_armed = 0; break;
      case KIND_KICK:
        if (!(flags & IORING_CQE_F_MORE)) kick_armed = 0;
    }
  }
}

static int pass(void) {
  int work = consume();
  fill();
  if (uring_unsubmitted() > 0) uring_enter(0, -1);
  reap();
  respond();
  work += deliver();
  publish(tx, &tx_published, tx_rsp);
  publish(rx, &rx_published, rx_rsp);
  return work;
}

static void rest(void) {
  if (!kick_armed) uring_poll(KICK_FD, 1, (uint64_t)KIND_KICK << 32);
  if (!link_armed) uring_poll(TAP_FD, 0, (uint64_t)KIND_LINK << 32);
  kick_armed = link_armed = 1;
  __atomic_store_n(&tx->req_event, tx_cons + 1, __ATOMIC_SEQ_CST);
  __atomic_store_n(&rx->req_event, rx_cons + 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&tx->req_prod, __ATOMIC_SEQ_CST) != tx_cons) return;
  reads = 0;
  uring_enter(1, -1);
  reap();
}

int ceiling_main(const struct run *run) {
  (void)run;
  char line[16];
  if (fgets(line, sizeof line, stdin) == NULL) return 1;
  entries = mmap(NULL, GRANT_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, OWN_FD, FIRST_GRANT_PAGE * PAGE);
  if (entries == MAP_FAILED) die("mmap(grants)");
  tx = (struct sring *)map_grant(TX_RING_REF, 0);
  rx = (struct sring *)map_grant(RX_RING_REF, 0);
  if (tx == NULL || rx == NULL) return 1;
  for (free_count = 0; free_count < TAGS; free_count++) free_tags[free_count] = free_count;
  uring_open(512);
  uring_register_file(TAP_FD);
  puts("ready");
  fflush(stdout);
  for (double worked = now();;) {
    double time = now();
    if (pass() > 0) worked = time;
    else if (time - worked > SPIN_S) rest();
  }
}
