#include "plugin/channel.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plugin/log.h"
#include "plugin/machine.h"
#include "plugin/paging.h"
#include "plugin/ram.h"
#include "plugin/requests.h"

namespace xenshim {
namespace {

constexpr const char* kVariable = "XENSHIM_BRIDGE";  // number of the socket's descriptor

// What QEMU gets to end by itself, s.
constexpr unsigned kEndPatience = 5;

int channel = -1;

// Receives one message and up to three descriptors. Returns false at the end of the connection.
bool Receive(Message& message, int (&fds)[3]) {
  for (int& fd : fds) fd = -1;
  iovec part{&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t length;
  do {
    length = recvmsg(channel, &header, MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length != static_cast<ssize_t>(sizeof message)) return false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
      std::memcpy(fds, CMSG_DATA(c), std::min(sizeof fds, c->cmsg_len - CMSG_LEN(0)));
  return true;
}

void* Serve(void*) {
  Message message;
  int fds[3];
  while (Receive(message, fds)) {
    Message reply{.op = kReply, .seq = message.seq};
    reply.result = HandleRequest(message, fds[0], reply);
    for (int fd : fds)
      if (fd >= 0) close(fd);
    if (message.op < kRaise) SendMessage(reply);
  }
  machine.closed.store(true);
  // Without the shim the guest has neither disks nor a clock source to wait for: let QEMU end in its own way.
  std::fprintf(stderr, "xenshim: the shim process is gone; stopping this machine\n");
  kill(getpid(), SIGTERM);
  if (RamWatched()) {
    // A vCPU may wait for a page that nobody brings any more, and QEMU for the vCPU.
    sleep(kEndPatience);
    kill(getpid(), SIGKILL);
  }
  return nullptr;
}

}  // namespace

void SendMessage(const Message& message, int fd) {
  if (channel < 0) return;
  iovec part{const_cast<Message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)]{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  ssize_t sent;
  do {
    sent = sendmsg(channel, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
}

void Log(Level level, const char* format, ...) {
  Message message{.op = kLogLine};
  message.arg[0] = static_cast<uint64_t>(level);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message.text, sizeof message.text, format, arguments);
  va_end(arguments);
  if (channel >= 0) {
    SendMessage(message);
  } else {
    std::fprintf(stderr, "xenshim: %s\n", message.text);
  }
}

bool ShimOffered() { return std::getenv(kVariable) != nullptr; }

bool ConnectToShim(int capabilities) {
  const char* variable = std::getenv(kVariable);
  if (variable == nullptr) return false;
  channel = std::atoi(variable);
  fcntl(channel, F_SETFD, FD_CLOEXEC);
  // Programs QEMU starts are not the guest: neither the plugin nor the socket is theirs.
  unsetenv(kVariable);
  unsetenv("LD_PRELOAD");
  Message hello{.op = kHello};
  hello.arg[0] = kProtocolVersion;
  hello.arg[1] = static_cast<uint64_t>(capabilities);
  hello.arg[2] = static_cast<uint64_t>(getpid());
  SendMessage(hello);

  Message init;
  int fds[3];
  if (!Receive(init, fds) || init.op != kInit || init.arg[0] != kProtocolVersion || fds[2] < 0) {
    std::fprintf(stderr, "xenshim: the shim did not answer the plugin\n");
    std::exit(1);
  }
  void* shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
  if (shared == MAP_FAILED || !SetOwnPages(fds[1], init.arg[1])) {
    std::fprintf(stderr, "xenshim: cannot map the bridge: %m\n");
    std::exit(1);
  }
  close(fds[0]);
  close(fds[1]);
  machine.xen_version = static_cast<uint32_t>(init.arg[2]);
  machine.any = init.arg[3] != 0;
  if (machine.any) machine.capabilities = static_cast<int>(init.arg[3]);
  machine.doorbell = fds[2];
  machine.shared = static_cast<Shared*>(shared);

  // QEMU's signals are QEMU's: the service thread takes none.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int rc = pthread_create(&thread, nullptr, Serve, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (rc != 0) {
    std::fprintf(stderr, "xenshim: cannot start the service thread: %s\n", std::strerror(rc));
    std::exit(1);
  }
  pthread_setname_np(thread, "xenshim");
  pthread_detach(thread);
  return true;
}

}  // namespace xenshim
