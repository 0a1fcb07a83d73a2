#include "shim.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "harness.h"

namespace harness {

using xenshim::Message;

xenshim::Shared* shared = nullptr;
int doorbell = -1;

namespace {

int channel = -1;
uint32_t seq = 0;
std::deque<Message> heard;

void Send(const Message& message, const int* fds, size_t count) {
  iovec part{const_cast<Message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))]{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (count != 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds, count * sizeof(int));
  }
  CHECK(TEMP_FAILURE_RETRY(sendmsg(channel, &header, 0)) == sizeof message);
}

Message Fill(xenshim::Op op, std::initializer_list<uint64_t> arguments) {
  Message message{};
  message.op = op;
  size_t n = 0;
  for (const uint64_t argument : arguments) message.arg[n++] = argument;
  return message;
}

}  // namespace

void OfferShim(uint64_t own_pages, uint32_t xen_version, uint64_t any) {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
  channel = ends[0];
  setenv("XENSHIM_BRIDGE", std::to_string(ends[1]).c_str(), 1);
  const int bridge = memfd_create("bridge", 0);
  const int own = memfd_create("own", 0);
  doorbell = eventfd(0, EFD_NONBLOCK);
  CHECK(ftruncate(bridge, sizeof(xenshim::Shared)) == 0 && ftruncate(own, static_cast<off_t>(own_pages * 4096)) == 0);
  void* memory = mmap(nullptr, sizeof(xenshim::Shared), PROT_READ | PROT_WRITE, MAP_SHARED, bridge, 0);
  CHECK(memory != MAP_FAILED);
  shared = static_cast<xenshim::Shared*>(memory);
  const int fds[3] = {bridge, own, doorbell};
  Send(Fill(xenshim::kInit, {xenshim::kProtocolVersion, own_pages, xen_version, any}), fds, 3);
  close(bridge);
  close(own);
}

Message Ask(xenshim::Op op, std::initializer_list<uint64_t> arguments, int fd) {
  Message message = Fill(op, arguments);
  message.seq = ++seq;
  Send(message, &fd, fd >= 0 ? 1 : 0);
  for (;;) {
    // The plugin's kick of a vCPU is a signal to the thread that ran it, which may be this one.
    CHECK(TEMP_FAILURE_RETRY(recv(channel, &message, sizeof message, 0)) == sizeof message);
    if (message.op == xenshim::kReply && message.seq == seq) return message;
    heard.push_back(message);
  }
}

void Tell(xenshim::Op op, std::initializer_list<uint64_t> arguments) { Send(Fill(op, arguments), nullptr, 0); }

std::deque<Message> Heard(bool lines) {
  Message message;
  while (TEMP_FAILURE_RETRY(recv(channel, &message, sizeof message, MSG_DONTWAIT)) == sizeof message) heard.push_back(message);
  std::deque<Message> wanted;
  for (const Message& each : heard)
    if ((each.op == xenshim::kLogLine) == lines) wanted.push_back(each);
  std::erase_if(heard, [lines](const Message& each) { return (each.op == xenshim::kLogLine) == lines; });
  return wanted;
}

}  // namespace harness
