// Unix stream sockets that block, for io_uring: on one that does not, it gives up with EAGAIN instead of waiting.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "addon/module.h"

namespace {

// The address of a path; the caller has checked that it fits.
sockaddr_un Address(const Napi::Value& path) {
  const std::string text = path.As<Napi::String>().Utf8Value();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  text.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

Napi::Value DescriptorOr(const Napi::CallbackInfo& info, int fd, bool failed) {
  const int error = errno;
  if (failed && fd >= 0) close(fd);
  return Napi::Number::New(info.Env(), failed ? -error : fd);
}

// streamConnect(path): a connected descriptor, or a negative errno.
Napi::Value StreamConnect(const Napi::CallbackInfo& info) {
  const sockaddr_un address = Address(info[0]);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool failed = fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0;
  return DescriptorOr(info, fd, failed);
}

// streamListen(path): a non-blocking descriptor that listens, or a negative errno.
Napi::Value StreamListen(const Napi::CallbackInfo& info) {
  const sockaddr_un address = Address(info[0]);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const bool failed =
      fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 || listen(fd, 1) < 0;
  return DescriptorOr(info, fd, failed);
}

// streamAccept(fd): the descriptor of the next peer, or a negative errno.
Napi::Value StreamAccept(const Napi::CallbackInfo& info) {
  const int fd = accept4(info[0].As<Napi::Number>().Int32Value(), nullptr, nullptr, SOCK_CLOEXEC);
  return DescriptorOr(info, fd, fd < 0);
}

Napi::Value StreamPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) ThrowErrno(info.Env(), "socketpair");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, fds[0]);
  pair.Set(1u, fds[1]);
  return pair;
}

}  // namespace

void InitStreamSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("streamConnect", Napi::Function::New(env, StreamConnect));
  exports.Set("streamListen", Napi::Function::New(env, StreamListen));
  exports.Set("streamAccept", Napi::Function::New(env, StreamAccept));
  exports.Set("streamPair", Napi::Function::New(env, StreamPair));
}
