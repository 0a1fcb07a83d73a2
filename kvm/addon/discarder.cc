// Discards on a block device, carried out by a thread of their own.
//
// The ioctls are used because they are the plain thing: fallocate's hole punching must leave zeros, so the kernel turns
// it into "write zeroes", which thin volumes and most SATA disks refuse although they discard; its flag for stale data
// never got past vfs_fallocate. io_uring has had a discard command since Linux 6.12, but nothing for secure erase.
// An ioctl blocks until the device has answered, hence the thread; and it holds the device's page cache locked (since
// Linux 6.15 its inode, too, on which a buffered read waits even in io_uring_enter), hence the pieces.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "addon/module.h"

namespace {

struct Discard {
  uint64_t offset;
  uint64_t length;
  bool secure;
  int32_t id;
};

struct Done {
  int32_t id;
  int32_t result;
};

class Discarder : public Napi::ObjectWrap<Discarder> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    exports.Set("Discarder", DefineClass(env, "Discarder",
                                         {InstanceMethod<&Discarder::Push>("push"),
                                          InstanceMethod<&Discarder::Take>("take"),
                                          InstanceMethod<&Discarder::Abandon>("abandon"),
                                          InstanceMethod<&Discarder::Close>("close")}));
  }

  // new Discarder(fd, bell, piece, start): pieces end at multiples of `piece` bytes from `start` on; `bell` is an
  // eventfd signalled when a discard is done. Both descriptors stay the caller's and open until close().
  explicit Discarder(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Discarder>(info),
        fd_(info[0].As<Napi::Number>().Int32Value()),
        bell_(info[1].As<Napi::Number>().Int32Value()),
        piece_(static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value())),
        start_(static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value())),
        thread_([this] { Work(); }) {}

  ~Discarder() override { End(); }

 private:
  // push(id, offset, length, secure): queues a discard, in bytes.
  void Push(const Napi::CallbackInfo& info) {
    const Discard discard = {static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()),
                             static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value()),
                             info[3].As<Napi::Boolean>().Value(), info[0].As<Napi::Number>().Int32Value()};
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(discard);
    }
    wake_.notify_one();
  }

  // take(into): fills an Int32Array with pairs of id and result (0 or a negative errno); returns how many pairs.
  Napi::Value Take(const Napi::CallbackInfo& info) {
    Napi::Int32Array into = info[0].As<Napi::Int32Array>();
    const std::lock_guard lock(mutex_);
    uint32_t count = 0;
    for (; !done_.empty() && 2 * count + 1 < into.ElementLength(); done_.pop_front(), count++) {
      into[2 * count] = done_.front().id;
      into[2 * count + 1] = done_.front().result;
    }
    return Napi::Number::New(info.Env(), count);
  }

  // abandon(yes): while true, no further piece is begun, and what is left undone ends with -ECANCELED.
  void Abandon(const Napi::CallbackInfo& info) {
    const std::lock_guard lock(mutex_);
    abandoned_ = info[0].As<Napi::Boolean>().Value();
  }

  void Close(const Napi::CallbackInfo&) { End(); }

  void End() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = abandoned_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
      if (ended_) return;
      const Discard discard = waiting_.front();
      waiting_.pop_front();
      const int32_t result = Carry(discard, lock);
      done_.push_back({discard.id, result});
      const uint64_t one = 1;
      // A full counter has been told already.
      [[maybe_unused]] const ssize_t rc = write(bell_, &one, sizeof one);
    }
  }

  // Called and returns with the lock held; does not hold it while the device works.
  int32_t Carry(const Discard& discard, std::unique_lock<std::mutex>& lock) {
    const uint64_t end = discard.offset + discard.length;
    for (uint64_t at = discard.offset; at < end;) {
      if (abandoned_) return -ECANCELED;
      lock.unlock();
      // A piece that did not end where the device can discard would leave a bit of the disk at every seam.
      const uint64_t seam = at < start_ ? start_ : at + piece_ - (at - start_) % piece_;
      uint64_t range[2] = {at, std::min(seam, end) - at};
      const int rc = ioctl(fd_, discard.secure ? BLKSECDISCARD : BLKDISCARD, range);
      const int error = rc < 0 ? errno : 0;
      lock.lock();
      if (error != 0) return -error;
      at += range[1];
    }
    return 0;
  }

  const int fd_;
  const int bell_;
  const uint64_t piece_;
  const uint64_t start_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Discard> waiting_;
  std::deque<Done> done_;
  bool abandoned_ = false;
  bool ended_ = false;
  std::thread thread_;  // last: it uses the others
};

// secureErase(fd): whether the device, open for writing, erases securely. /sys does not tell; the ioctl does, which asks
// that before it reads its argument (since Linux 5.19): without one nothing can be erased, on any kernel.
Napi::Value SecureErase(const Napi::CallbackInfo& info) {
  const int rc = ioctl(info[0].As<Napi::Number>().Int32Value(), BLKSECDISCARD, nullptr);
  return Napi::Boolean::New(info.Env(), rc < 0 && errno == EFAULT);
}

}  // namespace

void InitDiscarder(Napi::Env env, Napi::Object exports) {
  Discarder::Init(env, exports);
  exports.Set("secureErase", Napi::Function::New(env, SecureErase));
}
