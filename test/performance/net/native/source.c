/*
 * Frames towards the tap from the host's side, through a packet socket. Small frames are handed over unsegmented to a
 * tap that takes segments only: the kernel cuts them on its way, which makes this source faster than any reader.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common.h"

#define BATCH 4
/* Segments made of one frame, as many as fit. */
#define MOST_SEGMENTS 40

static int sock;
static struct mmsghdr messages[BATCH];
static struct iovec vector[2];
static struct vnet vnet;

void source_open(const struct run *run) {
  int one = 1, buffer = 64 << 20;
  sock = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
  if (sock < 0) die("socket(AF_PACKET)");
  /* Past the queueing discipline goes only what is not to be cut. */
  if (run->gso) setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  if (setsockopt(sock, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0) die("PACKET_VNET_HDR");
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("tap0")};
  if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0) die("bind(AF_PACKET)");
  setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  int segment = run->bytes - ETH_IP_TCP;
  int bytes = run->gso ? run->bytes : ETH_IP_TCP + MOST_SEGMENTS * segment;
  uint8_t *frame = malloc(bytes);
  make_frame(frame, bytes);
  make_vnet(&vnet, 1);
  if (!run->gso) vnet.gso_size = segment;
  /* Ten bytes: the socket knows the header without num_buffers. */
  vector[0] = (struct iovec){&vnet, 10};
  vector[1] = (struct iovec){frame, bytes};
  for (int i = 0; i < BATCH; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = vector, .msg_iovlen = 2};
}

void source_pump(void) {
  if (sendmmsg(sock, messages, BATCH, 0) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENETDOWN)
    die("sendmmsg");
}

int source_main(const struct run *run) {
  source_open(run);
  double end = now() + run->warmup + run->seconds;
  while (now() < end)
    for (int k = 0; k < 16; k++) source_pump();
  return 0;
}
