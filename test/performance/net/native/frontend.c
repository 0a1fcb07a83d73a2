/* A netfront that is never the bottleneck: polls its rings, sends an event only when it was asked for one. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

static struct sring *tx, *rx;
static uint32_t tx_prod, tx_cons, rx_prod, rx_cons;
static int parts, slots, next;
static uint64_t received, bad, kicks;
static int echo;

static void grant(volatile uint32_t *entries, uint32_t ref, uint32_t gfn, uint32_t flags) {
  entries[2 * ref + 1] = gfn;
  __atomic_store_n(&entries[2 * ref], GTF_PERMIT | flags, __ATOMIC_RELEASE);
}

/* Rings, grants and frames, as a driver has them before it says Connected. */
static void prepare(const struct run *run) {
  volatile uint32_t *entries = mmap(NULL, GRANT_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, OWN_FD,
                                    FIRST_GRANT_PAGE * PAGE);
  if (entries == MAP_FAILED) die("mmap(grants)");
  grant(entries, TX_RING_REF, TX_RING_GFN, 0);
  grant(entries, RX_RING_REF, RX_RING_GFN, 0);
  for (int i = 0; i < RING_SLOTS; i++) grant(entries, RX_FIRST_REF + i, RX_FIRST_GFN + i, 0);
  for (int i = 0; i < TX_PAGES; i++) grant(entries, TX_FIRST_REF + i, TX_FIRST_GFN + i, GTF_READONLY);
  tx = (struct sring *)(ram + TX_RING_GFN * PAGE);
  rx = (struct sring *)(ram + RX_RING_GFN * PAGE);
  memset(tx, 0, PAGE);
  memset(rx, 0, PAGE);
  tx->req_event = rx->req_event = 1;
  /* Responses are polled for: no event is asked for. */
  tx->rsp_event = rx->rsp_event = 1U << 31;
  parts = pages_of(run->bytes);
  slots = parts + (run->gso ? 1 : 0);
  for (int i = 0; i < run->frames; i++) make_frame(frame_at(run, i), run->bytes);
}

static void push(struct sring *ring, uint32_t *pushed, uint32_t prod) {
  uint32_t old = *pushed;
  if (prod == old) return;
  *pushed = prod;
  __atomic_store_n(&ring->req_prod, prod, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (prod - __atomic_load_n(&ring->req_event, __ATOMIC_RELAXED) >= prod - old) return;
  uint64_t one = 1;
  kicks++;
  if (write(KICK_FD, &one, sizeof one) < 0) die("kick");
}

static void put_frame(const struct run *run) {
  uint32_t page = (uint32_t)(next * parts);
  if (++next == run->frames) next = 0;
  for (int i = 0; i < parts; i++) {
    int last = i == parts - 1;
    uint16_t size = i == 0 ? run->bytes : last ? run->bytes - PAGE * (parts - 1) : PAGE;
    uint16_t flags = last ? 0 : TX_MORE;
    if (i == 0) flags |= TX_CSUM_BLANK | TX_DATA_VALIDATED | (run->gso ? TX_EXTRA : 0);
    tx->tx[tx_prod % RING_SLOTS] = (struct tx_request){
        .gref = TX_FIRST_REF + page + i, .flags = flags, .id = tx_prod % RING_SLOTS, .size = size};
    tx_prod++;
    if (i > 0 || !run->gso) continue;
    /* XEN_NETIF_EXTRA_TYPE_GSO, TCPv4 */
    static const uint8_t extra[12] = {1, 0, MSS & 0xff, MSS >> 8, 1};
    memcpy(tx->tx_slot[tx_prod++ % RING_SLOTS], extra, sizeof extra);
  }
}

static void take_tx_responses(void) { tx_cons = __atomic_load_n(&tx->rsp_prod, __ATOMIC_ACQUIRE); }

static uint32_t tx_pushed, rx_pushed;

static int pump_tx(const struct run *run) {
  take_tx_responses();
  int any = 0;
  while (RING_SLOTS - (tx_prod - tx_cons) >= (uint32_t)slots) {
    put_frame(run);
    any = 1;
  }
  push(tx, &tx_pushed, tx_prod);
  return any;
}

static void post_rx(int count) {
  for (int i = 0; i < count; i++, rx_prod++)
    rx->rx[rx_prod % RING_SLOTS] =
        (struct rx_request){.id = rx_prod % RING_SLOTS, .gref = RX_FIRST_REF + rx_prod % RING_SLOTS};
  push(rx, &rx_pushed, rx_prod);
}

static int pump_rx(void) {
  uint32_t end = __atomic_load_n(&rx->rsp_prod, __ATOMIC_ACQUIRE);
  int count = end - rx_cons;
  int extra = 0;
  for (; rx_cons != end; rx_cons++) {
    const struct rx_response *response = &rx->rx_rsp[rx_cons % RING_SLOTS];
    if (extra) {
      extra = 0;
      continue;
    }
    extra = response->flags & RX_EXTRA;
    if (response->status < 0) bad++;
    else if (!(response->flags & RX_MORE)) received++;
  }
  if (count > 0) post_rx(count);
  return count;
}

/* The other end of a request-response: a packet socket that sends back what it gets. */
static void echo_open(void) {
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("tap0")};
  int one = 1;
  echo = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
  setsockopt(echo, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  if (echo < 0 || bind(echo, (struct sockaddr *)&address, sizeof address) < 0) die("socket(AF_PACKET)");
}

static void exchange(const struct run *run) {
  static uint8_t frame[2048];
  put_frame(run);
  push(tx, &tx_pushed, tx_prod);
  ssize_t length;
  double patience = now() + 1;
  while ((length = recv(echo, frame, sizeof frame, 0)) < 0)
    if (now() > patience) die("a request was lost");
  if (send(echo, frame, length, 0) < 0) die("send(AF_PACKET)");
  for (uint64_t before = received; received == before;)
    if (pump_rx() == 0 && now() > patience) die("an answer was lost");
  do take_tx_responses();
  while (tx_cons != tx_prod);
}

int frontend_main(const struct run *run, const char *mode) {
  int transmits = strcmp(mode, "tx") == 0, receives = strcmp(mode, "rx") == 0, exchanges = strcmp(mode, "rr") == 0;
  prepare(run);
  if (receives) source_open(run);
  if (exchanges) echo_open();
  char line[16];
  if (puts("ready") < 0 || fflush(stdout) != 0 || fgets(line, sizeof line, stdin) == NULL) return 1;
  post_rx(RING_SLOTS);

  double start = now() + run->warmup, begun = 0;
  uint64_t cpu = 0, sent = 0, bytes, before = 0, kicks_before = 0;
  for (unsigned round = 0;; round++) {
    if (transmits && !pump_tx(run)) pause_cpu();
    if (receives) {
      source_pump();
      pump_rx();
    }
    if (exchanges) exchange(run);
    if (!transmits && !receives && !exchanges) usleep(1000);
    else if (round % 64 != 0) continue;
    double time = now();
    if (begun == 0 && time >= start) {
      tap_received(&sent, &bytes);
      before = received;
      kicks_before = kicks;
      cpu = cpu_ns(run->pid);
      begun = now();
    } else if (begun != 0 && time >= begun + run->seconds) {
      break;
    }
  }
  double elapsed = now() - begun;
  cpu = cpu_ns(run->pid) - cpu;
  uint64_t sent_after;
  tap_received(&sent_after, &bytes);
  double count = transmits ? sent_after - sent : received - before;
  printf("{\"rate\":%.0f,\"cpuNs\":%.1f,\"cpuShare\":%.5f,\"kicks\":%.5f,\"bad\":%lu}\n", count / elapsed,
         count > 0 ? cpu / count : 0, cpu / elapsed / 1e9, count > 0 ? (kicks - kicks_before) / count : 0, bad);
  return bad == 0 ? 0 : 1;
}
