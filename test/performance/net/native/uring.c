#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

static int fd;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static uint32_t *sq_tail, *cq_head, *cq_tail;
static uint32_t sq_mask, cq_mask, tail, head, unsubmitted;

void uring_open(unsigned entries) {
  struct io_uring_params params = {
      .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, .cq_entries = 2 * entries};
  fd = syscall(__NR_io_uring_setup, entries, &params);
  if (fd < 0) die("io_uring_setup");
  size_t sq_bytes = params.sq_off.array + params.sq_entries * 4;
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  uint8_t *ring = mmap(NULL, sq_bytes > cq_bytes ? sq_bytes : cq_bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
  sqes = mmap(NULL, params.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
              IORING_OFF_SQES);
  if (ring == MAP_FAILED || sqes == MAP_FAILED) die("mmap(io_uring)");
  sq_tail = (uint32_t *)(ring + params.sq_off.tail);
  cq_head = (uint32_t *)(ring + params.cq_off.head);
  cq_tail = (uint32_t *)(ring + params.cq_off.tail);
  cqes = (struct io_uring_cqe *)(ring + params.cq_off.cqes);
  sq_mask = params.sq_entries - 1;
  cq_mask = params.cq_entries - 1;
  uint32_t *array = (uint32_t *)(ring + params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; i++) array[i] = i;
}

void uring_register_file(int file) {
  if (syscall(__NR_io_uring_register, fd, IORING_REGISTER_FILES, &file, 1) < 0) die("io_uring_register");
}

static struct io_uring_sqe *entry(void) {
  struct io_uring_sqe *sqe = &sqes[tail++ & sq_mask];
  unsubmitted++;
  memset(sqe, 0, sizeof *sqe);
  return sqe;
}

void uring_push(int opcode, const void *address, unsigned length, uint64_t user, int rw_flags) {
  struct io_uring_sqe *sqe = entry();
  sqe->opcode = opcode;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->off = -1;
  sqe->addr = (uintptr_t)address;
  sqe->len = length;
  sqe->rw_flags = rw_flags;
  sqe->user_data = user;
}

void uring_poll(int file, int multishot, uint64_t user) {
  struct io_uring_sqe *sqe = entry();
  sqe->opcode = IORING_OP_POLL_ADD;
  sqe->fd = file;
  sqe->len = multishot ? IORING_POLL_ADD_MULTI : 0;
  sqe->poll32_events = multishot ? POLLIN | 1U << 31 : POLLIN;
  sqe->user_data = user;
}

unsigned uring_unsubmitted(void) { return unsubmitted; }

void uring_enter(unsigned wait, long timeout_us) {
  __atomic_store_n(sq_tail, tail, __ATOMIC_RELEASE);
  struct __kernel_timespec limit = {timeout_us / 1000000, timeout_us % 1000000 * 1000};
  struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&limit};
  unsigned flags = IORING_ENTER_GETEVENTS | (timeout_us < 0 ? 0 : IORING_ENTER_EXT_ARG);
  long result = syscall(__NR_io_uring_enter, fd, unsubmitted, wait, flags, timeout_us < 0 ? NULL : &arg,
                        timeout_us < 0 ? 0 : sizeof arg);
  if (result >= 0) unsubmitted -= result;
  else if (errno != EINTR && errno != ETIME && errno != EAGAIN && errno != EBUSY) die("io_uring_enter");
}

int uring_next(uint64_t *user, int *result, unsigned *flags) {
  if (head == __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE)) {
    __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
    return 0;
  }
  const struct io_uring_cqe *cqe = &cqes[head++ & cq_mask];
  *user = cqe->user_data;
  *result = cqe->res;
  if (flags != NULL) *flags = cqe->flags;
  return 1;
}
