// Unix stream sockets for protocols that pass descriptors: Node's own sockets cannot, and a worker that sleeps in
// io_uring has no event loop to serve them with. What is sent goes through channelSend.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

#include "addon/module.h"

namespace {

int Fd(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

int Open(Napi::Env env, const std::string& path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.size() >= sizeof address->sun_path) ThrowErrno(env, "unix socket", ENAMETOOLONG);
  std::memcpy(address->sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) ThrowErrno(env, "socket");
  return fd;
}

[[noreturn]] void Fail(Napi::Env env, int fd, const char* what) {
  const int error = errno;
  close(fd);
  ThrowErrno(env, what, error);
}

// unixListen(path): a listening socket.
Napi::Value UnixListen(const Napi::CallbackInfo& info) {
  sockaddr_un address;
  const int fd = Open(info.Env(), info[0].As<Napi::String>(), &address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Fail(info.Env(), fd, "bind");
  if (listen(fd, 16) != 0) Fail(info.Env(), fd, "listen");
  return Napi::Number::New(info.Env(), fd);
}

// unixConnect(path): a connected socket, accepted by the other side or not yet. EAGAIN when too many wait for that.
Napi::Value UnixConnect(const Napi::CallbackInfo& info) {
  sockaddr_un address;
  const int fd = Open(info.Env(), info[0].As<Napi::String>(), &address);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Fail(info.Env(), fd, "connect");
  return Napi::Number::New(info.Env(), fd);
}

// streamReceive(fd, buffer, timeout in ms): 1 when the buffer is full, 0 when time is up, -1 at the end of the stream.
Napi::Value StreamReceive(const Napi::CallbackInfo& info) {
  const int fd = Fd(info[0]);
  auto bytes = info[1].As<Napi::Uint8Array>();
  size_t got = 0;
  while (got < bytes.ByteLength()) {
    const ssize_t n = recv(fd, bytes.Data() + got, bytes.ByteLength() - got, MSG_DONTWAIT);
    if (n > 0) {
      got += static_cast<size_t>(n);
      continue;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) return Napi::Number::New(info.Env(), -1);
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, Fd(info[2])) == 0) return Napi::Number::New(info.Env(), 0);
  }
  return Napi::Number::New(info.Env(), 1);
}

// shutdownSocket(fd): ends both directions, for whoever else holds the socket too.
void ShutdownSocket(const Napi::CallbackInfo& info) { shutdown(Fd(info[0]), SHUT_RDWR); }

}  // namespace

void InitUnixSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("unixListen", Napi::Function::New(env, UnixListen));
  exports.Set("unixConnect", Napi::Function::New(env, UnixConnect));
  exports.Set("streamReceive", Napi::Function::New(env, StreamReceive));
  exports.Set("shutdownSocket", Napi::Function::New(env, ShutdownSocket));
}
