/* netbench PROGRAM --bytes N [--gso] [--frames N] [--warmup S] [--seconds S] [--pid PID] [--batch N] */
#define _GNU_SOURCE
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) die("sched_setaffinity");
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"bytes", 1, 0, 'b'},   {"gso", 0, 0, 'g'},     {"frames", 1, 0, 'f'},
                                          {"warmup", 1, 0, 'w'},  {"seconds", 1, 0, 's'}, {"pid", 1, 0, 'p'},
                                          {"batch", 1, 0, 'n'},   {"cpu", 1, 0, 'c'},     {0}};
  struct run run = {.bytes = 1514, .frames = 15, .warmup = 0.3, .seconds = 1};
  int batch = 32;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
    switch (option) {
      case 'b': run.bytes = atoi(optarg); break;
      case 'g': run.gso = 1; break;
      case 'f': run.frames = atoi(optarg); break;
      case 'w': run.warmup = atof(optarg); break;
      case 's': run.seconds = atof(optarg); break;
      case 'p': run.pid = atoi(optarg); break;
      case 'n': batch = atoi(optarg); break;
      case 'c': pin(atoi(optarg)); break;
      default: return 2;
    }
  }
  if (run.frames * pages_of(run.bytes) > TX_PAGES || optind != argc - 1) return 2;
  const char *program = argv[optind];
  map_ram();
  if (strcmp(program, "tx-plain") == 0) return limit_main(&run, 0, 0, 0);
  if (strcmp(program, "tx-uring") == 0) return limit_main(&run, 0, 1, batch);
  if (strcmp(program, "rx-plain") == 0) return limit_main(&run, 1, 0, 0);
  if (strcmp(program, "rx-uring") == 0) return limit_main(&run, 1, 1, batch);
  if (strcmp(program, "source") == 0) return source_main(&run);
  if (strcmp(program, "ceiling") == 0) return ceiling_main(&run);
  return frontend_main(&run, program);
}
