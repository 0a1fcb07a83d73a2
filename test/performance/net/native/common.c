#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

uint8_t *ram;

void die(const char *what) {
  perror(what);
  exit(1);
}

void map_ram(void) {
  ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, RAM_FD, 0);
  if (ram == MAP_FAILED) die("mmap(ram)");
}

double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

uint64_t cpu_ns(int pid) {
  if (pid == 0) return 0;
  char path[300];
  uint64_t sum = 0;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    unsigned long long ns = 0;
    if (fscanf(file, "%llu", &ns) == 1) sum += ns;
    fclose(file);
  }
  closedir(tasks);
  return sum;
}

void tap_received(uint64_t *packets, uint64_t *bytes) {
  char line[512];
  FILE *file = fopen("/proc/self/net/dev", "r");
  if (file == NULL) die("/proc/self/net/dev");
  *packets = *bytes = 0;
  while (fgets(line, sizeof line, file) != NULL) {
    unsigned long long b, p;
    char *at = strstr(line, "tap0:");
    if (at != NULL && sscanf(at + 5, "%llu %llu", &b, &p) == 2) *bytes = b, *packets = p;
  }
  fclose(file);
}

static uint16_t sum16(const void *data, int length) {
  const uint8_t *byte = data;
  uint32_t sum = 0;
  for (int i = 0; i < length; i += 2) sum += byte[i] << 8 | byte[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

static void put16(uint8_t *at, unsigned value) {
  at[0] = value >> 8;
  at[1] = value;
}

void make_frame(uint8_t *frame, int bytes) {
  static const uint8_t ends[12] = {2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0x11};
  static const uint8_t addresses[8] = {10, 0, 0, 1, 10, 0, 0, 2};
  memset(frame, 0x5a, bytes);
  memset(frame, 0, ETH_IP_TCP);
  memcpy(frame, ends, sizeof ends);
  put16(frame + 12, 0x0800);
  uint8_t *ip = frame + 14;
  ip[0] = 0x45;
  put16(ip + 2, bytes - 14);
  ip[6] = 0x40;
  ip[8] = 64;
  ip[9] = 6;
  memcpy(ip + 12, addresses, sizeof addresses);
  put16(ip + 10, (uint16_t)~sum16(ip, 20));
  uint8_t *tcp = ip + 20;
  put16(tcp, 1000);
  put16(tcp + 2, 2000);
  tcp[12] = 0x50;
  tcp[13] = 0x10;
  uint8_t pseudo[12];
  memcpy(pseudo, addresses, 8);
  put16(pseudo + 8, 6);
  put16(pseudo + 10, bytes - 34);
  put16(tcp + 16, sum16(pseudo, sizeof pseudo));
}

void make_vnet(struct vnet *header, int gso) {
  *header = (struct vnet){.flags = 1, .csum_start = 34, .csum_offset = 16};
  if (!gso) return;
  header->gso_type = 1;
  header->hdr_len = ETH_IP_TCP;
  header->gso_size = MSS;
}

int pages_of(int bytes) { return (bytes + PAGE - 1) / PAGE; }

uint8_t *frame_at(const struct run *run, int i) {
  return ram + (size_t)(TX_FIRST_GFN + i * pages_of(run->bytes)) * PAGE;
}
