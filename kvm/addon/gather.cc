// Short pieces of memory copied into one buffer, a list of them a call: what a loop in TypeScript would copy word by word,
// with a check of each. The pieces are independent of one another, so the processor waits for several of them at a time
// where another core has written them.
#include <cstdint>
#include <cstring>

#include "addon/module.h"

namespace {

// What TypeScript fills in (shim/io/gather.ts).
struct Piece {
  uint64_t from;
  uint32_t to;  // from the beginning of the buffer
  uint32_t length;
};
static_assert(sizeof(Piece) == 16);

// In front of the pieces.
struct Head {
  uint32_t count;
  uint32_t unused[3];
};
static_assert(sizeof(Head) == 16);

class Gather : public Napi::ObjectWrap<Gather> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) { exports.Set("Gather", DefineClass(env, "Gather", {})); }

  // new Gather(buffer, capacity): `list` is the buffer of the head and the pieces, `run` a function without arguments or
  // results. The memory of `buffer` outlives the calls.
  explicit Gather(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Gather>(info) {
    Napi::Env env = info.Env();
    Napi::ArrayBuffer into = info[0].As<Napi::ArrayBuffer>();
    into_ = static_cast<uint8_t*>(into.Data());
    bytes_ = into.ByteLength();
    capacity_ = info[1].As<Napi::Number>().Uint32Value();
    Napi::ArrayBuffer list = Napi::ArrayBuffer::New(env, sizeof(Head) + capacity_ * sizeof(Piece));
    list_ = static_cast<uint8_t*>(list.Data());
    memset(list_, 0, list.ByteLength());
    kept_into_ = Napi::Persistent(into);
    kept_list_ = Napi::Persistent(list);
    napi_value run = nullptr;
    if (napi_create_function(env, "run", NAPI_AUTO_LENGTH, Run, this, &run) != napi_ok) {
      throw Napi::Error::New(env, "Gather: no function");
    }
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("list", list);
    self.Set("run", Napi::Value(env, run));
  }

 private:
  static napi_value Run(napi_env env, napi_callback_info info) {
    void* data = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    const auto* self = static_cast<Gather*>(data);
    const Piece* pieces = reinterpret_cast<const Piece*>(self->list_ + sizeof(Head));
    uint32_t count = reinterpret_cast<const Head*>(self->list_)->count;
    if (count > self->capacity_) count = self->capacity_;
    for (uint32_t i = 0; i < count; i++) {
      const Piece piece = pieces[i];
      // Our own mistake would not be worth memory that is somebody else's.
      if (uint64_t{piece.to} + piece.length > self->bytes_) continue;
      memcpy(self->into_ + piece.to, reinterpret_cast<const void*>(piece.from), piece.length);
    }
    return nullptr;
  }

  uint8_t* into_ = nullptr;
  uint64_t bytes_ = 0;
  uint32_t capacity_ = 0;
  uint8_t* list_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> kept_into_;
  Napi::Reference<Napi::ArrayBuffer> kept_list_;
};

}  // namespace

void InitGather(Napi::Env env, Napi::Object exports) { Gather::Init(env, exports); }
