/* The limit: the fastest this tap takes or gives frames when there is no guest, no ring and no grant. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

#define RWF_NOWAIT_FLAG 8
#define SETS 256

static struct vnet headers[SETS];
static struct iovec vectors[SETS][18];
static int parts, sets;

/* Transmit: the very frames the frontend would grant. Receive: the pages it would post, as many as a ring holds. */
static void prepare(const struct run *run, int receive) {
  int pages = pages_of(run->bytes);
  sets = receive ? RING_SLOTS / pages : run->frames;
  if (sets > SETS) sets = SETS;
  parts = receive ? pages + 1 : 2;
  for (int i = 0; i < sets; i++) {
    make_vnet(&headers[i], run->gso);
    vectors[i][0] = (struct iovec){&headers[i], VNET};
    if (!receive) {
      vectors[i][1] = (struct iovec){frame_at(run, i), run->bytes};
      continue;
    }
    for (int k = 0; k < pages; k++)
      vectors[i][1 + k] = (struct iovec){ram + (size_t)(RX_FIRST_GFN + i * pages + k) * PAGE, PAGE};
  }
}

static uint64_t moved, empty;
static int next;

static void plain(int receive) {
  for (int k = 0; k < 64; k++) {
    ssize_t result = receive ? readv(TAP_FD, vectors[next], parts) : writev(TAP_FD, vectors[next], parts);
    if (result <= 0) {
      empty++;
      pause_cpu();
      return;
    }
    moved++;
    if (++next == sets) next = 0;
  }
}

static void batched(int receive, int batch) {
  for (int i = 0; i < batch; i++) {
    uring_push(receive ? IORING_OP_READV : IORING_OP_WRITEV, vectors[next], parts, 0, RWF_NOWAIT_FLAG);
    if (++next == sets) next = 0;
  }
  uring_enter(0, -1);
  uint64_t user;
  int result;
  while (uring_next(&user, &result, NULL))
    if (result > 0) moved++;
    else empty++;
}

int limit_main(const struct run *run, int receive, int uring, int batch) {
  prepare(run, receive);
  if (!receive)
    for (int i = 0; i < sets; i++) make_frame(frame_at(run, i), run->bytes);
  if (uring) {
    uring_open(256);
    uring_register_file(TAP_FD);
  }
  double start = now() + run->warmup;
  uint64_t before = 0, cpu = 0, bytes, packets = 0, packets_after;
  double begun = 0;
  for (;;) {
    for (int k = 0; k < 8; k++) {
      if (uring) batched(receive, batch);
      else plain(receive);
    }
    double time = now();
    if (begun == 0 && time >= start) {
      tap_received(&packets, &bytes);
      cpu = cpu_ns(getpid());
      before = moved;
      begun = now();
    } else if (begun != 0 && time >= begun + run->seconds) {
      break;
    }
  }
  double elapsed = now() - begun;
  cpu = cpu_ns(getpid()) - cpu;
  tap_received(&packets_after, &bytes);
  double count = receive ? moved - before : packets_after - packets;
  printf("{\"rate\":%.0f,\"cpuNs\":%.1f,\"empty\":%.4f}\n", count / elapsed, count > 0 ? cpu / count : 0,
         (double)empty / (moved + empty));
  return 0;
}
