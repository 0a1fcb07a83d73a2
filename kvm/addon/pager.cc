// The pager as an object of JavaScript, and the layout of the frame words.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <memory>

#include "addon/module.h"
#include "core/uffd.h"
#include "pager/pager.h"

namespace {

using namespace xenshim;

class NativePager : public Napi::ObjectWrap<NativePager> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    exports.Set("Pager", DefineClass(env, "Pager",
                                     {
                                         InstanceMethod<&NativePager::Start>("start"),
                                         InstanceMethod<&NativePager::Evict>("evict"),
                                         InstanceMethod<&NativePager::Stop>("stop"),
                                     }));
  }

  // new Pager({ uffd, words, wordsBytes, file, bell, done, maxResident, ranges })
  explicit NativePager(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativePager>(info) {
    const auto given = info[0].As<Napi::Object>();
    auto number = [](const Napi::Object& object, const char* name) {
      return object.Get(name).As<Napi::Number>().Int64Value();
    };
    PagerOptions options;
    options.uffd = static_cast<int>(number(given, "uffd"));
    options.words_fd = static_cast<int>(number(given, "words"));
    options.words_bytes = static_cast<uint64_t>(number(given, "wordsBytes"));
    options.file = static_cast<int>(number(given, "file"));
    options.bell = static_cast<int>(number(given, "bell"));
    options.done = static_cast<int>(number(given, "done"));
    options.max_resident = static_cast<uint32_t>(number(given, "maxResident"));
    const auto ranges = given.Get("ranges").As<Napi::Array>();
    for (uint32_t i = 0; i < ranges.Length(); i++) {
      const auto range = ranges.Get(i).As<Napi::Object>();
      options.ranges.push_back({static_cast<uint64_t>(number(range, "gfn")), static_cast<uint64_t>(number(range, "pages")),
                                static_cast<uint64_t>(number(range, "hva")), static_cast<int>(number(range, "fd")),
                                static_cast<uint64_t>(number(range, "offset"))});
    }
    pager_ = std::make_unique<Pager>(options);
    if (const int rc = pager_->Open(); rc != 0) ThrowErrno(info.Env(), "pager", -rc);
  }

 private:
  void Start(const Napi::CallbackInfo&) { pager_->Start(); }

  Napi::Value Evict(const Napi::CallbackInfo& info) {
    const int64_t gfn = info[0].As<Napi::Number>().Int64Value();
    const int64_t count = info[1].As<Napi::Number>().Int64Value();
    return Napi::Number::New(info.Env(), static_cast<double>(
                                             pager_->Evict(static_cast<uint64_t>(gfn), static_cast<uint64_t>(count))));
  }

  void Stop(const Napi::CallbackInfo&) { pager_->Stop(); }

  std::unique_ptr<Pager> pager_;
};

// (buffer, byte offset, value, ms) → void: sleeps while the word has the value, at most so long.
void FutexWait(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  char* word = static_cast<char*>(buffer.Data()) + info[1].As<Napi::Number>().Int64Value();
  const int64_t ms = info[3].As<Napi::Number>().Int64Value();
  const timespec limit{ms / 1000, (ms % 1000) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT, info[2].As<Napi::Number>().Int32Value(), &limit, nullptr, 0);
}

// 0, or the errno for which this process cannot have a userfaultfd as the pager needs it.
Napi::Value UserfaultfdProblem(const Napi::CallbackInfo& info) {
  const int uffd = OpenUffd();
  if (uffd >= 0) close(uffd);
  return Napi::Number::New(info.Env(), uffd < 0 ? -uffd : 0);
}

#define WORD(name) header.Set(#name, static_cast<double>(offsetof(FrameHeader, name) / 4))

Napi::Object FrameLayout(Napi::Env env) {
  Napi::Object header = Napi::Object::New(env);
  WORD(counting);
  WORD(tracking);
  WORD(resident);
  WORD(max_resident);
  WORD(idle);
  WORD(head);
  WORD(tail);
  WORD(blocked);
  WORD(failed);
  WORD(failed_gfn);
  WORD(faults);
  WORD(requests);
  WORD(refused);
  WORD(paged_in);
  WORD(zeroed);
  WORD(evicted);
  WORD(cancelled);
  WORD(eagain);
  WORD(released);
  WORD(serving);
  WORD(serving_since);
  WORD(slowest);
  WORD(crowded);
  WORD(ring);
  WORD(asked);
  header.Set("WORDS", static_cast<double>(sizeof(FrameHeader) / 4));
  header.Set("RING", static_cast<double>(kPagerRing));
  return header;
}

}  // namespace

void InitPager(Napi::Env env, Napi::Object exports) {
  NativePager::Init(env, exports);
  exports.Set("userfaultfdProblem", Napi::Function::New(env, UserfaultfdProblem));
  exports.Set("futexWait", Napi::Function::New(env, FutexWait));
  exports.Set("frameHeader", FrameLayout(env));
}
