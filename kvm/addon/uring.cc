// io_uring with its rings shown to JavaScript: entries are written and completions read there; only the enter call is
// native. A ring belongs to the thread that made it (IORING_SETUP_SINGLE_ISSUER).
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "addon/module.h"

namespace {

// Newer than the oldest headers this builds with.
constexpr unsigned kSingleIssuer = 1U << 12;
constexpr unsigned kDeferTaskrun = 1U << 13;
constexpr unsigned kNoSqArray = 1U << 16;
constexpr unsigned kCoopTaskrun = 1U << 8;
constexpr unsigned kRegisterRingFds = 20;
constexpr unsigned kEnterRegisteredRing = 1U << 4;

// Best first; an older kernel answers EINVAL to flags it does not know.
constexpr unsigned kSetupFlags[] = {
    kCoopTaskrun | kSingleIssuer | kDeferTaskrun | kNoSqArray,
    kCoopTaskrun | kSingleIssuer | kDeferTaskrun,
    kCoopTaskrun,
    0,
};

int Setup(unsigned entries, io_uring_params* params) {
  return static_cast<int>(syscall(__NR_io_uring_setup, entries, params));
}

int Register(int fd, unsigned opcode, const void* arg, unsigned count) {
  return static_cast<int>(syscall(__NR_io_uring_register, fd, opcode, arg, count));
}

class Uring : public Napi::ObjectWrap<Uring> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    exports.Set("Uring", DefineClass(env, "Uring",
                                     {
                                         InstanceMethod<&Uring::RegisterFiles>("registerFiles"),
                                         InstanceMethod<&Uring::CloseRing>("close"),
                                     }));
  }

  // new Uring(entries, cqEntries)
  explicit Uring(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Uring>(info) {
    Napi::Env env = info.Env();
    const unsigned entries = info[0].As<Napi::Number>().Uint32Value();
    const unsigned cq_entries = info[1].As<Napi::Number>().Uint32Value();
    io_uring_params params;
    for (const unsigned flags : kSetupFlags) {
      params = {};
      params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
      params.cq_entries = cq_entries;
      fd_ = Setup(entries, &params);
      if (fd_ >= 0 || errno != EINVAL) break;
    }
    if (fd_ < 0) ThrowErrno(env, "io_uring_setup");
    if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0 || (params.features & IORING_FEAT_EXT_ARG) == 0) {
      Close();
      ThrowErrno(env, "io_uring of Linux 5.11", ENOSYS);
    }
    Map(env, params);
    io_uring_rsrc_update update = {};
    update.offset = ~0U;
    update.data = static_cast<uint64_t>(fd_);
    if (Register(fd_, kRegisterRingFds, &update, 1) == 1) {
      enter_fd_ = static_cast<int>(update.offset);
      enter_flags_ = kEnterRegisteredRing;
    } else {
      enter_fd_ = fd_;
    }
    Describe(info.This().As<Napi::Object>(), params);
  }

  ~Uring() override { Close(); }

 private:
  void Map(Napi::Env env, const io_uring_params& params) {
    const size_t sq_length = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    const size_t cq_length = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    ring_length_ = sq_length > cq_length ? sq_length : cq_length;
    sqes_length_ = params.sq_entries * sizeof(io_uring_sqe);
    const int prot = PROT_READ | PROT_WRITE;
    const int flags = MAP_SHARED | MAP_POPULATE;
    ring_ = mmap(nullptr, ring_length_, prot, flags, fd_, IORING_OFF_SQ_RING);
    sqes_ = mmap(nullptr, sqes_length_, prot, flags, fd_, IORING_OFF_SQES);
    if (ring_ == MAP_FAILED || sqes_ == MAP_FAILED) {
      const int error = errno;
      Close();
      ThrowErrno(env, "mmap(io_uring)", error);
    }
    if ((params.flags & kNoSqArray) == 0) {
      // Entries are always used in ring order: the indirection is the identity, once and for all.
      auto* array = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(ring_) + params.sq_off.array);
      for (uint32_t i = 0; i < params.sq_entries; i++) array[i] = i;
    }
  }

  void Describe(Napi::Object self, const io_uring_params& params) {
    Napi::Env env = self.Env();
    auto number = [&](const char* name, uint32_t value) { self.Set(name, Napi::Number::New(env, value)); };
    self.Set("ring", Napi::ArrayBuffer::New(env, ring_, ring_length_));
    self.Set("sqes", Napi::ArrayBuffer::New(env, sqes_, sqes_length_));
    Napi::ArrayBuffer call = Napi::ArrayBuffer::New(env, kCallWords * sizeof(int32_t));
    call_ = static_cast<int32_t*>(call.Data());
    call_buffer_ = Napi::Persistent(call);
    self.Set("call", call);
    napi_value enter;
    if (napi_create_function(env, "enter", NAPI_AUTO_LENGTH, Enter, this, &enter) != napi_ok) {
      throw Napi::Error::New(env, "io_uring: no function");
    }
    self.Set("enter", Napi::Value(env, enter));
    number("flags", params.flags);
    number("sqHead", params.sq_off.head);
    number("sqTail", params.sq_off.tail);
    number("sqEntries", params.sq_entries);
    number("cqHead", params.cq_off.head);
    number("cqTail", params.cq_off.tail);
    number("cqEntries", params.cq_entries);
    number("cqes", params.cq_off.cqes);
  }

  // enter(): submits and waits as the words of `call` say, and writes entries consumed, or a negative errno, into the
  // last of them. Called for every batch, so it does without the cost of arguments and results.
  static napi_value Enter(napi_env env, napi_callback_info info) {
    void* self = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &self);
    static_cast<Uring*>(self)->EnterRing();
    return nullptr;
  }

  void EnterRing() {
    if (fd_ < 0) {
      call_[kResult] = -EBADF;
      return;
    }
    const unsigned submit = static_cast<unsigned>(call_[kToSubmit]);
    const unsigned wait = static_cast<unsigned>(call_[kMinComplete]);
    const int64_t timeout_us = call_[kTimeoutUs];
    const unsigned flags = enter_flags_ | IORING_ENTER_GETEVENTS;
    long result;
    if (timeout_us < 0) {
      result = syscall(__NR_io_uring_enter, enter_fd_, submit, wait, flags, nullptr, 0);
    } else {
      __kernel_timespec limit = {timeout_us / 1000000, (timeout_us % 1000000) * 1000};
      io_uring_getevents_arg arg = {};
      arg.ts = reinterpret_cast<uint64_t>(&limit);
      result = syscall(__NR_io_uring_enter, enter_fd_, submit, wait, flags | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
    }
    call_[kResult] = static_cast<int32_t>(result < 0 ? -errno : result);
  }

  // registerFiles(fds): the index in the array is what IOSQE_FIXED_FILE entries name.
  void RegisterFiles(const Napi::CallbackInfo& info) {
    const Napi::Array fds = info[0].As<Napi::Array>();
    std::vector<int32_t> files;
    for (uint32_t i = 0; i < fds.Length(); i++) files.push_back(fds.Get(i).As<Napi::Number>().Int32Value());
    if (Register(fd_, IORING_REGISTER_FILES, files.data(), static_cast<unsigned>(files.size())) < 0) {
      ThrowErrno(info.Env(), "io_uring_register(files)");
    }
  }

  void CloseRing(const Napi::CallbackInfo&) { Close(); }

  void Close() {
    if (ring_ != MAP_FAILED) munmap(ring_, ring_length_);
    if (sqes_ != MAP_FAILED) munmap(sqes_, sqes_length_);
    ring_ = sqes_ = MAP_FAILED;
    if (fd_ < 0) return;
    if (enter_flags_ != 0) {
      io_uring_rsrc_update update = {};
      update.offset = static_cast<uint32_t>(enter_fd_);
      Register(fd_, kRegisterRingFds + 1, &update, 1);
    }
    close(fd_);
    fd_ = -1;
  }

  // Words of `call`.
  enum { kToSubmit = 0, kMinComplete = 1, kTimeoutUs = 2, kResult = 3, kCallWords = 4 };

  int32_t* call_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> call_buffer_;
  int fd_ = -1;
  int enter_fd_ = -1;
  unsigned enter_flags_ = 0;
  void* ring_ = MAP_FAILED;
  void* sqes_ = MAP_FAILED;
  size_t ring_length_ = 0;
  size_t sqes_length_ = 0;
};

}  // namespace

void InitUring(Napi::Env env, Napi::Object exports) { Uring::Init(env, exports); }
