// Batches of reads and writes done at once by the calling thread, for files whose every access is a copy in memory
// (tmpfs): io_uring hands those to threads of the kernel, which costs more than the copy.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "addon/module.h"

namespace {

// An entry as TypeScript fills it in (shim/io/inline-file.ts).
struct Entry {
  uint32_t op;
  uint32_t buffers;  // iovecs at `address`; 0 = `address` is the data itself
  uint64_t offset;
  uint64_t address;
  uint32_t length;
  int32_t result;
};
static_assert(sizeof(Entry) == 32);

enum Op : uint32_t { kRead = 0, kWrite = 1, kSync = 2, kPunch = 3 };

int64_t Transfer(int fd, const Entry& e) {
  const off_t offset = static_cast<off_t>(e.offset);
  void* address = reinterpret_cast<void*>(e.address);
  const int count = static_cast<int>(e.buffers);
  if (e.op == kRead) {
    return count == 0 ? pread(fd, address, e.length, offset) : preadv(fd, static_cast<iovec*>(address), count, offset);
  }
  return count == 0 ? pwrite(fd, address, e.length, offset) : pwritev(fd, static_cast<iovec*>(address), count, offset);
}

int64_t Run(int fd, const Entry& e) {
  switch (e.op) {
    case kRead:
    case kWrite:
      return Transfer(fd, e);
    case kSync:
      return fdatasync(fd);
    case kPunch:
      // The length stands where addresses do.
      return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(e.offset),
                       static_cast<off_t>(e.address));
    default:
      errno = EINVAL;
      return -1;
  }
}

class InlineFile : public Napi::ObjectWrap<InlineFile> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    exports.Set("InlineFile", DefineClass(env, "InlineFile", {InstanceMethod<&InlineFile::RunEntries>("run")}));
  }

  // new InlineFile(fd, capacity): `entries` is the buffer of `capacity` entries. The descriptor stays the caller's.
  explicit InlineFile(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<InlineFile>(info), fd_(info[0].As<Napi::Number>().Int32Value()) {
    const uint32_t capacity = info[1].As<Napi::Number>().Uint32Value();
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), capacity * sizeof(Entry));
    entries_ = static_cast<Entry*>(buffer.Data());
    capacity_ = capacity;
    info.This().As<Napi::Object>().Set("entries", buffer);
    buffer_ = Napi::Persistent(buffer);
  }

 private:
  // run(first, count): carries out entries and writes bytes or a negative errno into each.
  void RunEntries(const Napi::CallbackInfo& info) {
    const uint32_t first = info[0].As<Napi::Number>().Uint32Value();
    const uint32_t count = info[1].As<Napi::Number>().Uint32Value();
    for (uint32_t i = first; i < capacity_ && i - first < count; i++) {
      const int64_t result = Run(fd_, entries_[i]);
      entries_[i].result = static_cast<int32_t>(result < 0 ? -errno : result);
    }
  }

  const int fd_;
  Entry* entries_ = nullptr;
  uint32_t capacity_ = 0;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace

void InitInlineFile(Napi::Env env, Napi::Object exports) { InlineFile::Init(env, exports); }
