// One read or write at a time, done at once by the calling thread: for loops that spin on a descriptor, where an io_uring
// with a single entry costs more than the system call it replaces, and for descriptors that take no RWF_NOWAIT.
#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdint>

#include "addon/module.h"

namespace {

// What TypeScript fills in (shim/io/vector-io.ts), and bytes or a negative errno.
struct Call {
  // Of `count` iovecs; or if that is 0, of the only buffer, `length` bytes.
  uint64_t address;
  uint32_t count;
  int32_t result;
  uint32_t length;
  uint32_t unused;
};
static_assert(sizeof(Call) == 24);

class VectorIo : public Napi::ObjectWrap<VectorIo> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) { exports.Set("VectorIo", DefineClass(env, "VectorIo", {})); }

  // new VectorIo(fd, plain): `call` is the buffer, `read` and `write` are functions without arguments or results. The
  // descriptor stays the caller's, and open while they are called. `plain` ones do without RWF_NOWAIT, which files have to
  // support (FMODE_NOWAIT): the descriptor is made non-blocking instead, for all who share it.
  explicit VectorIo(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<VectorIo>(info),
        fd_(info[0].As<Napi::Number>().Int32Value()),
        flags_(info[1].As<Napi::Boolean>().Value() ? 0 : RWF_NOWAIT) {
    if (flags_ == 0) {
      const int status = fcntl(fd_, F_GETFL);
      if (status < 0 || fcntl(fd_, F_SETFL, status | O_NONBLOCK) < 0) {
        throw Napi::Error::New(info.Env(), "VectorIo: the descriptor cannot be made non-blocking");
      }
    }
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), sizeof(Call));
    call_ = static_cast<Call*>(buffer.Data());
    buffer_ = Napi::Persistent(buffer);
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("call", buffer);
    self.Set("read", Function<preadv2>(info.Env(), "read"));
    self.Set("write", Function<pwritev2>(info.Env(), "write"));
  }

 private:
  template <ssize_t (*kTransfer)(int, const iovec*, int, off_t, int)>
  Napi::Value Function(Napi::Env env, const char* name) {
    napi_value function = nullptr;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, Run<kTransfer>, this, &function) != napi_ok) {
      throw Napi::Error::New(env, "VectorIo: no function");
    }
    return Napi::Value(env, function);
  }

  template <ssize_t (*kTransfer)(int, const iovec*, int, off_t, int)>
  static napi_value Run(napi_env env, napi_callback_info info) {
    void* data = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    const auto* self = static_cast<VectorIo*>(data);
    Call* call = self->call_;
    const iovec only{reinterpret_cast<void*>(call->address), call->length};
    const bool vector = call->count > 0;
    const iovec* iovecs = vector ? reinterpret_cast<const iovec*>(call->address) : &only;
    const ssize_t done = kTransfer(self->fd_, iovecs, vector ? static_cast<int>(call->count) : 1, -1, self->flags_);
    call->result = static_cast<int32_t>(done < 0 ? -errno : done);
    return nullptr;
  }

  const int fd_;
  const int flags_;
  Call* call_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace

void InitVectorIo(Napi::Env env, Napi::Object exports) { VectorIo::Init(env, exports); }
