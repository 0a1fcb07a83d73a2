/* What the programs of the network benchmark share: the guest's memory, its frames, the clock, the tap's counters. */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

/* Descriptors every program is started with. */
enum { RAM_FD = 3, OWN_FD = 4, KICK_FD = 5, CALL_FD = 6, TAP_FD = 7 };

#define PAGE 4096
#define RAM_BYTES (64UL << 20)
#define RING_SLOTS 256
/* Own pages of the shim: grant frames begin at this one (rig.ts). */
#define FIRST_GRANT_PAGE 2
#define GRANT_PAGES 12
#define GRANT_REFS (GRANT_PAGES * 512)

#define TX_RING_GFN 1
#define RX_RING_GFN 2
#define TX_RING_REF 8
#define RX_RING_REF 9
/* Receive buffers: one page a slot. */
#define RX_FIRST_REF 16
#define RX_FIRST_GFN 256
/* Transmit buffers. */
#define TX_FIRST_REF 512
#define TX_FIRST_GFN 512
#define TX_PAGES 5120

/* Flags of a version 1 grant entry. */
#define GTF_PERMIT 1
#define GTF_READONLY 4
#define GTF_READING 8
#define GTF_WRITING 16

struct tx_request {
  uint32_t gref;
  uint16_t offset, flags, id, size;
};
struct tx_response {
  uint16_t id;
  int16_t status;
};
struct rx_request {
  uint16_t id, pad;
  uint32_t gref;
};
struct rx_response {
  uint16_t id, offset, flags;
  int16_t status;
};
struct sring {
  uint32_t req_prod, req_event, rsp_prod, rsp_event;
  uint32_t pad[12];
  union {
    struct tx_request tx[RING_SLOTS];
    struct rx_request rx[RING_SLOTS];
    struct rx_response rx_rsp[RING_SLOTS];
    uint8_t tx_slot[RING_SLOTS][12];
    uint8_t rx_slot[RING_SLOTS][8];
  };
};

enum { TX_CSUM_BLANK = 1, TX_DATA_VALIDATED = 2, TX_MORE = 4, TX_EXTRA = 8 };
enum { RX_DATA_VALIDATED = 1, RX_CSUM_BLANK = 2, RX_MORE = 4, RX_EXTRA = 8 };

struct vnet {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
#define VNET 12

#define ETH_IP_TCP 54
#define MSS 1448

extern uint8_t *ram;

/* One run: what is measured, from the command line. */
struct run {
  int bytes;       /* of a frame */
  int gso;         /* frames are segmented by whoever receives them */
  int frames;      /* different frames sent in rotation */
  double warmup;   /* s */
  double seconds;
  int pid;         /* whose CPU time is counted; 0 = none */
};

void map_ram(void);
double now(void);
/* CPU time of all threads of a process, ns. */
uint64_t cpu_ns(int pid);
/* Frames and bytes the host has received from tap0. */
void tap_received(uint64_t *packets, uint64_t *bytes);
/* A TCP segment to nobody, its checksum left to the receiver. */
void make_frame(uint8_t *frame, int bytes);
void make_vnet(struct vnet *header, int gso);
/* Where frame `i` of the rotation begins; every frame begins on a page. */
uint8_t *frame_at(const struct run *run, int i);
int pages_of(int bytes);
void die(const char *what);
static inline void pause_cpu(void) { __builtin_ia32_pause(); }

int limit_main(const struct run *run, int receive, int uring, int batch);
int frontend_main(const struct run *run, const char *mode);
int ceiling_main(const struct run *run);
int source_main(const struct run *run);

/* A source of frames towards the tap (source.c). */
void source_open(const struct run *run);
void source_pump(void);

/* The least of io_uring (uring.c). */
void uring_open(unsigned entries);
void uring_register_file(int fd);
void uring_push(int opcode, const void *address, unsigned length, uint64_t user, int rw_flags);
/* Edge-triggered multishot poll of a descriptor that is not registered. */
void uring_poll(int fd, int multishot, uint64_t user);
void uring_enter(unsigned wait, long timeout_us);
int uring_next(uint64_t *user, int *result, unsigned *flags);
unsigned uring_unsubmitted(void);
