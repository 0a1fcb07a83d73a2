// The shim's end of the bridge: messages with descriptors, futex wakes, and the layout both sides share.
#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "addon/module.h"
#include "core/protocol.h"

namespace {

using namespace xenshim;

int Fd(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

// () → [ours, theirs]; ours is close-on-exec.
Napi::Value ChannelPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) ThrowErrno(info.Env(), "socketpair");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, fds[0]);
  pair.Set(1u, fds[1]);
  return pair;
}

// (fd, message bytes, descriptors) → void
void ChannelSend(const Napi::CallbackInfo& info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  std::vector<int> fds;
  if (info[2].IsArray()) {
    const auto list = info[2].As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++) fds.push_back(Fd(list.Get(i)));
  }
  iovec part{bytes.Data(), bytes.ByteLength()};
  std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent;
  do {
    sent = sendmsg(Fd(info[0]), &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) ThrowErrno(info.Env(), "sendmsg");
}

constexpr size_t kMostDescriptors = 3;

// (fd, buffer, timeout in ms, all?) → descriptor or -1 | undefined when nothing came in time | null at the end. Every
// descriptor goes into the array `all`; without one, all but the first are closed.
Napi::Value ChannelReceive(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = Fd(info[0]);
  auto bytes = info[1].As<Napi::Uint8Array>();
  pollfd poll_fd{fd, POLLIN, 0};
  int ready;
  do {
    ready = poll(&poll_fd, 1, Fd(info[2]));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return env.Undefined();
  iovec part{bytes.Data(), bytes.ByteLength()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t length;
  do {
    length = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    // ECONNRESET is said once, when the peer left something unread; what it sent before is still there.
  } while (length < 0 && (errno == EINTR || errno == ECONNRESET));
  if (length < 0 && errno == EAGAIN) return env.Undefined();
  if (length <= 0) return env.Null();
  int received[kMostDescriptors] = {-1};
  const cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c == nullptr || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return Napi::Number::New(env, -1);
  const size_t count = std::min((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), kMostDescriptors);
  std::memcpy(received, CMSG_DATA(c), count * sizeof(int));
  for (uint32_t i = 0; i < count; i++) {
    if (info[3].IsArray()) info[3].As<Napi::Array>().Set(i, received[i]);
    else if (i > 0) close(received[i]);
  }
  return Napi::Number::New(env, received[0]);
}

// (buffer, byte offset) → void: wakes all who sleep on the word.
void FutexWake(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  char* word = static_cast<char*>(buffer.Data()) + info[1].As<Napi::Number>().Uint32Value();
  syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

// (bridge memory, ns) → true if a vCPU's request came within that time. Spins; meant for tens of microseconds.
Napi::Value SpinForRequest(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto& header = *static_cast<const Header*>(buffer.Data());
  const uint64_t limit = info[1].As<Napi::Number>().Uint32Value();
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    for (int i = 0; i < 16; i++) {
      if (header.pending[0].load(std::memory_order_relaxed) != 0) return Napi::Boolean::New(info.Env(), true);
      __builtin_ia32_pause();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t passed = uint64_t(now.tv_sec - start.tv_sec) * 1000000000u + uint64_t(now.tv_nsec) -
                            uint64_t(start.tv_nsec);
    if (passed >= limit) return Napi::Boolean::New(info.Env(), false);
  }
}

#define OFFSET(object, type, field) object.Set(#field, static_cast<double>(offsetof(type, field)))

Napi::Object Layout(Napi::Env env) {
  Napi::Object header = Napi::Object::New(env);
  header.Set("SIZE", static_cast<double>(sizeof(Header)));
  OFFSET(header, Header, magic);
  OFFSET(header, Header, version);
  OFFSET(header, Header, sleeping);
  OFFSET(header, Header, ram_generation);
  OFFSET(header, Header, spin_ns);
  OFFSET(header, Header, pending);
  OFFSET(header, Header, created);
  Napi::Object slot = Napi::Object::New(env);
  slot.Set("SIZE", static_cast<double>(sizeof(Slot)));
  OFFSET(slot, Slot, state);
  OFFSET(slot, Slot, waiting);
  OFFSET(slot, Slot, kind);
  OFFSET(slot, Slot, nr);
  OFFSET(slot, Slot, cpl);
  OFFSET(slot, Slot, long_mode);
  OFFSET(slot, Slot, args);
  OFFSET(slot, Slot, cr0);
  OFFSET(slot, Slot, cr3);
  OFFSET(slot, Slot, cr4);
  OFFSET(slot, Slot, efer);
  OFFSET(slot, Slot, result);
  Napi::Object message = Napi::Object::New(env);
  message.Set("SIZE", static_cast<double>(sizeof(Message)));
  OFFSET(message, Message, op);
  OFFSET(message, Message, seq);
  OFFSET(message, Message, result);
  OFFSET(message, Message, arg);
  OFFSET(message, Message, text);
  Napi::Object layout = Napi::Object::New(env);
  layout.Set("header", header);
  layout.Set("slot", slot);
  layout.Set("message", message);
  layout.Set("sharedSize", static_cast<double>(sizeof(Shared)));
  layout.Set("maxVcpus", static_cast<double>(kMaxVcpus));
  layout.Set("magic", static_cast<double>(kMagic));
  layout.Set("version", static_cast<double>(kProtocolVersion));
  return layout;
}

#define OP(name) ops.Set(#name, static_cast<double>(xenshim::k##name))

Napi::Object Ops(Napi::Env env) {
  Napi::Object ops = Napi::Object::New(env);
  OP(SetLongMode);
  OP(SetSharedInfo);
  OP(SetCallbackVector);
  OP(SetVcpuInfo);
  OP(SetVcpuTimeInfo);
  OP(SetRunstateArea);
  OP(SetRunstateUpdate);
  OP(GetRunstate);
  OP(SetUpcallVector);
  OP(SetTimer);
  OP(RouteSend);
  OP(BindIrqfd);
  OP(MoveIrqfd);
  OP(UnbindIrqfd);
  OP(PlacePage);
  OP(RemovePage);
  OP(GetTime);
  OP(SetKernelPoll);
  OP(WatchRam);
  OP(Raise);
  OP(SetGsi);
  OP(Power);
  OP(Hello);
  OP(Reply);
  OP(RamBegin);
  OP(RamFile);
  OP(RamRange);
  OP(RamEnd);
  OP(LogLine);
  OP(RamMapping);
  OP(RamWatch);
  OP(Init);
  return ops;
}

}  // namespace

void InitBridge(Napi::Env env, Napi::Object exports) {
  exports.Set("channelPair", Napi::Function::New(env, ChannelPair));
  exports.Set("channelSend", Napi::Function::New(env, ChannelSend));
  exports.Set("channelReceive", Napi::Function::New(env, ChannelReceive));
  exports.Set("futexWake", Napi::Function::New(env, FutexWake));
  exports.Set("spinForRequest", Napi::Function::New(env, SpinForRequest));
  exports.Set("bridgeLayout", Layout(env));
  exports.Set("bridgeOps", Ops(env));
}
