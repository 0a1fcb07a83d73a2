// What both native frontends share: arguments, the pace of requests, latencies, and the line of results.
#ifndef XENSHIM_BENCH_LOAD_H
#define XENSHIM_BENCH_LOAD_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH 512

struct load {
  unsigned depth;
  unsigned pages;      // of 4 KiB, per request
  bool write;
  bool random;
  bool event;          // sleep on the event; otherwise spin on the ring
  double warm, seconds;
  uint64_t disk_pages;

  uint64_t rng;
  uint64_t next;       // sequential position, in requests
  double ns_per_tick;
  uint64_t started[MAX_DEPTH];
  // Latency in ticks: 16 buckets for each power of two.
  uint64_t histogram[64 * 16];
  uint64_t total, measured;
  bool measuring;
  double begin, end;
  uint64_t next_look;
};

static inline double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline uint64_t ticks(void) { return __builtin_ia32_rdtsc(); }

static inline void load_init(struct load *l, int argc, char **argv) {
  if (argc < 9) {
    fprintf(stderr, "usage: %s depth pages read|write random|sequential event|poll warm seconds disk-pages …\n", argv[0]);
    exit(2);
  }
  memset(l, 0, sizeof *l);
  l->depth = (unsigned)atoi(argv[1]);
  l->pages = (unsigned)atoi(argv[2]);
  l->write = strcmp(argv[3], "write") == 0;
  l->random = strcmp(argv[4], "random") == 0;
  l->event = strcmp(argv[5], "event") == 0;
  l->warm = atof(argv[6]);
  l->seconds = atof(argv[7]);
  l->disk_pages = strtoull(argv[8], NULL, 10);
  l->rng = 0x9e3779b97f4a7c15ULL ^ (uint64_t)getpid();
  const double before = now_seconds();
  const uint64_t first = ticks();
  usleep(50000);
  l->ns_per_tick = (now_seconds() - before) * 1e9 / (double)(ticks() - first);
  l->begin = now_seconds() + l->warm;
}

// First 512-byte sector of the next request.
static inline uint64_t load_sector(struct load *l) {
  const uint64_t places = l->disk_pages / l->pages;
  uint64_t place;
  if (l->random) {
    l->rng ^= l->rng << 13;
    l->rng ^= l->rng >> 7;
    l->rng ^= l->rng << 17;
    place = l->rng % places;
  } else {
    place = l->next++ % places;
  }
  return place * l->pages * 8;
}

static inline void load_done(struct load *l, unsigned tag, uint64_t at) {
  l->total++;
  if (!l->measuring) return;
  l->measured++;
  const uint64_t spent = (at - l->started[tag]) | 16;
  const int top = 63 - __builtin_clzll(spent);
  l->histogram[top * 16 + (int)((spent >> (top - 4)) & 15)]++;
}

static inline double load_percentile(const struct load *l, double share) {
  uint64_t left = (uint64_t)((double)l->measured * share);
  for (int i = 0; i < 64 * 16; i++) {
    if (l->histogram[i] > left) return (double)((16ULL + (i & 15)) << (i / 16 - 4)) * l->ns_per_tick / 1000;
    left -= l->histogram[i];
  }
  return 0;
}

// True when the time is up; looks at the clock every so often only.
static inline bool load_over(struct load *l, uint64_t at) {
  if (at < l->next_look) return false;
  l->next_look = at + (uint64_t)(200000 / l->ns_per_tick);
  const double now = now_seconds();
  if (!l->measuring && now >= l->begin) {
    l->measuring = true;
    l->begin = now;
  }
  l->end = now;
  return l->measuring && now >= l->begin + l->seconds;
}

static inline void load_print(const struct load *l) {
  printf("{\"iops\":%.0f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"total\":%lu}\n", (double)l->measured / (l->end - l->begin),
         load_percentile(l, 0.5), load_percentile(l, 0.99), (unsigned long)l->total);
  fflush(stdout);
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

// Until the event is raised; whichever way its descriptor was opened.
static inline void sleep_on(int event_fd) {
  struct pollfd wait = {event_fd, POLLIN, 0};
  uint64_t count;
  if (poll(&wait, 1, -1) < 0 && errno != EINTR) die("poll");
  if (read(event_fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR) die("event");
}

#define RELAX() __builtin_ia32_pause()
#define COMPILER_BARRIER() __asm__ volatile("" ::: "memory")
#define FULL_BARRIER() __atomic_thread_fence(__ATOMIC_SEQ_CST)

#endif
