// Batches of the commonest map and unmap: version 1 entries that belong to the calling thread alone, whose frame is RAM.
// What active.ts and maptrack.ts do for them in TypeScript, in one call for a batch: two locked instructions are
// most of what is left, where V8 makes a call of each (docs/decisions/0020). Whatever is not so plain is left to them.
// The thread is in the table (guard.ts) during a call, and nothing here waits.
#include <cstdint>

#include "addon/module.h"

namespace {

// GTF_* of public/grant_table.h.
constexpr uint32_t kPermitAccess = 1, kReadonly = 1 << 2, kReading = 1 << 3, kWriting = 1 << 4, kCacheHints = 0xe0;
// state.ts: words of the header, and of the entries.
constexpr int kDying = 6, kMaptrackLimit = 10, kNrRefs = 14;
constexpr int kEntriesShift = 9, kActiveShift = 2, kMaptrackShift = 1;
// active.ts.
constexpr int32_t kReadonlyPin = 1, kReadWritePin = 1 << 8;
// maptrack.ts.
constexpr uint32_t kUsed = 1, kReadonlyHandle = 2, kIndexBits = 18, kIndexMask = (1u << kIndexBits) - 1;
constexpr uint32_t kGenerationShift = 12, kGenerationMask = 0xfff;

// An op of a PageBatch (page-batch.ts).
struct Op {
  uint32_t ref;
  uint32_t readonly;
  int32_t status;
  int32_t handle;
  uint64_t hva;
  uint32_t context;
  uint32_t unused;
};
static_assert(sizeof(Op) == 32);
constexpr int32_t kOkay = 0, kUnusual = 1;

constexpr uint32_t kFrames = 64, kRanges = 8;

struct Range {
  uint32_t gfn;
  uint32_t pages;
  uint64_t hva;
};

// What quick-grants.ts writes and reads.
struct Call {
  uint64_t ops;       // of map: Op; of unmap: handles, -1 in the place of those done
  uint32_t count;
  uint32_t left;      // out: ops that are not done
  int32_t free;       // this thread's list of free maptrack entries (maptrack.ts)
  int32_t free_count;
  int32_t mine;       // state of an entry that is this thread's own, without pins
  uint32_t thread;    // the thread's bits in a maptrack entry
  uint32_t active_at;
  uint32_t maptrack_at;
  uint32_t max_refs;
  uint32_t ranges;
  uint64_t unused[2];
  Range range[kRanges];
  uint64_t frame[kFrames];  // where the grant frames are; 0 = not to be had
};
static_assert(offsetof(Call, range) == 64 && offsetof(Call, frame) == 192);

template <typename T>
T Load(const T* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
template <typename T>
void Store(T* word, T value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

uint64_t PageAt(const Call& call, uint32_t gfn) {
  for (uint32_t i = 0; i < call.ranges; i++) {
    const uint32_t page = gfn - call.range[i].gfn;
    if (gfn >= call.range[i].gfn && page < call.range[i].pages) return call.range[i].hva + (uint64_t{page} << 12);
  }
  return 0;
}

uint32_t* EntryOf(const Call& call, uint32_t ref) {
  const uint32_t frame = ref >> kEntriesShift;
  if (frame >= kFrames || call.frame[frame] == 0) return nullptr;
  return reinterpret_cast<uint32_t*>(call.frame[frame]) + ((ref & ((1u << kEntriesShift) - 1)) << 1);
}

bool MapOne(Call& call, int32_t* words, Op& op) {
  if (op.ref >= static_cast<uint32_t>(Load(&words[kNrRefs])) || call.free < 0) return false;
  int32_t* active = words + call.active_at + (op.ref << kActiveShift);
  if (Load(active) != call.mine) return false;
  uint32_t* entry = EntryOf(call, op.ref);
  if (entry == nullptr) return false;
  uint32_t seen = Load(entry);
  const uint32_t plain = seen & ~kCacheHints;
  const bool readonly = op.readonly != 0;
  if (plain != kPermitAccess && !(readonly && plain == (kPermitAccess | kReadonly))) return false;
  const uint32_t set = readonly ? kReading : kReading | kWriting;
  if (!__atomic_compare_exchange_n(entry, &seen, seen | set, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return false;
  // What the guest writes into it from now on changes nothing: it is read once.
  const uint32_t gfn = Load(entry + 1);
  const uint64_t hva = PageAt(call, gfn);
  if (hva == 0) {
    __atomic_fetch_and(entry, ~set, __ATOMIC_SEQ_CST);
    return false;
  }
  Store(active + 1, static_cast<int32_t>(gfn));
  Store(active + 2, int32_t{0});
  Store(active, call.mine + (readonly ? kReadonlyPin : kReadWritePin));
  const uint32_t index = static_cast<uint32_t>(call.free);
  int32_t* track = words + call.maptrack_at + (index << kMaptrackShift);
  call.free = Load(track);
  call.free_count--;
  const uint32_t generation = (static_cast<uint32_t>(Load(track + 1)) >> kGenerationShift) & kGenerationMask;
  Store(track, static_cast<int32_t>(op.ref));
  const uint32_t mode = readonly ? kUsed | kReadonlyHandle : kUsed;
  Store(track + 1, static_cast<int32_t>(mode | call.thread | generation << kGenerationShift));
  op.handle = static_cast<int32_t>(index | generation << kIndexBits);
  op.hva = hva;
  op.status = kOkay;
  return true;
}

bool UnmapOne(Call& call, int32_t* words, int32_t handle) {
  const uint32_t index = static_cast<uint32_t>(handle) & kIndexMask;
  const uint32_t generation = static_cast<uint32_t>(handle) >> kIndexBits;
  if (handle < 0 || generation > kGenerationMask || index >= static_cast<uint32_t>(Load(&words[kMaptrackLimit]))) return false;
  int32_t* track = words + call.maptrack_at + (index << kMaptrackShift);
  const uint32_t meta = static_cast<uint32_t>(Load(track + 1));
  if ((meta & kUsed) == 0 || meta >> kGenerationShift != generation) return false;
  const uint32_t ref = static_cast<uint32_t>(Load(track));
  if (ref >= call.max_refs) return false;
  int32_t* active = words + call.active_at + (ref << kActiveShift);
  if (Load(active) != call.mine + ((meta & kReadonlyHandle) != 0 ? kReadonlyPin : kReadWritePin)) return false;
  uint32_t* entry = EntryOf(call, ref);
  if (entry == nullptr) return false;
  __atomic_fetch_and(entry, ~(kReading | kWriting), __ATOMIC_SEQ_CST);
  Store(active, call.mine);
  const uint32_t next = (generation + 1) & kGenerationMask;
  Store(track + 1, static_cast<int32_t>(call.thread | next << kGenerationShift));
  Store(track, call.free);
  call.free = static_cast<int32_t>(index);
  call.free_count++;
  return true;
}

class QuickGrants : public Napi::ObjectWrap<QuickGrants> {
 public:
  static void Init(Napi::Env env, Napi::Object exports) {
    exports.Set("QuickGrants", DefineClass(env, "QuickGrants", {}));
  }

  // new QuickGrants(words): the shared words of the grant table, which outlive this object. `call` is the buffer of the
  // arguments, `map` and `unmap` are functions that need no `this`.
  explicit QuickGrants(const Napi::CallbackInfo& info) : Napi::ObjectWrap<QuickGrants>(info) {
    Napi::Env env = info.Env();
    Napi::Int32Array words = info[0].As<Napi::Int32Array>();
    words_ = words.Data();
    kept_ = Napi::Persistent(info[0].As<Napi::Object>());
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, sizeof(Call));
    call_ = static_cast<Call*>(buffer.Data());
    *call_ = Call{};
    buffer_ = Napi::Persistent(buffer);
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("call", buffer);
    self.Set("map", Plain(env, "map", &QuickGrants::Map));
    self.Set("unmap", Plain(env, "unmap", &QuickGrants::Unmap));
  }

 private:
  // A function without arguments and without `this`: a third of what a method's call costs.
  Napi::Value Plain(Napi::Env env, const char* name, napi_callback callback) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, this, &function) != napi_ok) throw Napi::Error::New(env);
    return Napi::Value(env, function);
  }

  static QuickGrants* Self(napi_env env, napi_callback_info info) {
    void* self = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &self);
    return static_cast<QuickGrants*>(self);
  }

  static napi_value Map(napi_env env, napi_callback_info info) {
    QuickGrants* self = Self(env, info);
    Call& call = *self->call_;
    Op* ops = reinterpret_cast<Op*>(call.ops);
    const bool dying = Load(&self->words_[kDying]) != 0;
    call.left = 0;
    for (uint32_t i = 0; i < call.count; i++) {
      ops[i].status = kUnusual;
      if (dying || !MapOne(call, self->words_, ops[i])) call.left++;
    }
    return nullptr;
  }

  static napi_value Unmap(napi_env env, napi_callback_info info) {
    QuickGrants* self = Self(env, info);
    Call& call = *self->call_;
    int32_t* handles = reinterpret_cast<int32_t*>(call.ops);
    const bool dying = Load(&self->words_[kDying]) != 0;
    call.left = 0;
    for (uint32_t i = 0; i < call.count; i++) {
      if (dying || !UnmapOne(call, self->words_, handles[i])) call.left++;
      else handles[i] = -1;
    }
    return nullptr;
  }

  int32_t* words_ = nullptr;
  Call* call_ = nullptr;
  Napi::ObjectReference kept_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace

void InitQuickGrants(Napi::Env env, Napi::Object exports) { QuickGrants::Init(env, exports); }
