// The pager's way out: frames are nominated, write-protected in QEMU's mapping, copied out, and taken out of memory only
// if nobody has pinned them in the meantime. A vCPU that writes meanwhile waits, and faults the frame in again.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/uffd.h"
#include "pager/page_sum.h"
#include "pager/pager.h"

namespace xenshim {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kBatch = 64;
constexpr auto kPatience = std::chrono::seconds(1);

}  // namespace

bool Pager::Nominate(Frame frame) {
  auto& word = Word(frame);
  uint32_t seen = word.load();
  const uint32_t keep = seen & kFrameDirty;
  if ((seen & ~(kFrameDirty | kFrameReferenced)) != kFrameRam) return false;
  return word.compare_exchange_strong(seen, kFramePagingOut | keep);
}

void Pager::SetState(Frame frame, uint32_t state) {
  auto& word = Word(frame);
  uint32_t seen = word.load();
  while ((seen & kFrameStateMask) != kFrameReleased && !word.compare_exchange_weak(seen, state | (seen & kFrameDirty))) {
  }
}

int64_t Pager::EvictSome() {
  std::vector<Frame> batch;
  const size_t most = std::min<size_t>(kBatch, header_->max_resident.load() / 8 + 1);
  uint64_t frames = 0;
  for (const Range& range : ranges_) frames += range.pages;
  // Two turns: in the first, frames used since the last one lose their mark.
  for (uint64_t looked = 0; looked < 2 * frames && batch.size() < most; looked++) {
    Range& range = ranges_[hand_range_];
    const Frame frame{&range, hand_index_};
    if (++hand_index_ == range.pages) {
      hand_index_ = 0;
      hand_range_ = (hand_range_ + 1) % ranges_.size();
    }
    const uint32_t seen = Word(frame).load(std::memory_order_relaxed);
    if ((seen & ~(kFrameDirty | kFrameReferenced)) != kFrameRam) continue;
    if ((seen & kFrameReferenced) != 0) {
      Word(frame).fetch_and(~kFrameReferenced);
      continue;
    }
    if (Nominate(frame)) batch.push_back(frame);
  }
  return EvictBatch(batch);
}

int64_t Pager::Evict(uint64_t gfn, uint64_t count) {
  const std::unique_lock lock(mutex_, kPatience);
  if (!lock.owns_lock()) return -EAGAIN;
  if (header_->failed.load() != 0) return -EIO;
  int64_t evicted = 0;
  bool busy = false;
  std::vector<Frame> batch;
  for (uint64_t i = 0; i < count; i++) {
    const Frame frame = Find(gfn + i);
    if (frame.range == nullptr) continue;
    if (Nominate(frame)) batch.push_back(frame);
    else if ((Word(frame).load() & ~(kFramePin - 1)) != 0) busy = true;
    if (batch.size() < kBatch && i + 1 < count) continue;
    const int64_t done = EvictBatch(batch);
    if (done < 0) return done;
    if (done < static_cast<int64_t>(batch.size())) busy = true;
    evicted += done;
    batch.clear();
  }
  return evicted == 0 && busy ? -EBUSY : evicted;
}

// Evicts nominated frames; those not evicted are as before.
int64_t Pager::EvictBatch(std::vector<Frame>& batch) {
  int64_t evicted = 0;
  int error = 0;
  for (size_t from = 0; from < batch.size();) {
    size_t to = from + 1;
    while (to < batch.size() && batch[to].range == batch[from].range && batch[to].index == batch[to - 1].index + 1) to++;
    std::vector<Frame> run(batch.begin() + static_cast<std::ptrdiff_t>(from), batch.begin() + static_cast<std::ptrdiff_t>(to));
    std::vector<bool> zero(run.size());
    Protect(run[0], run.size(), true);
    const int failed = error != 0 ? error : CopyOut(run, zero);
    if (failed != 0) error = failed;
    size_t gone = 0;  // frames of the run just before the current one that can be punched
    for (size_t i = 0; i <= run.size(); i++) {
      bool taken = false;
      if (i < run.size()) {
        auto& word = Word(run[i]);
        uint32_t seen = kFramePagingOut | (word.load() & kFrameDirty);
        const uint32_t next = error != 0 ? kFrameRam : kFramePaged;
        taken = word.compare_exchange_strong(seen, next | (seen & kFrameDirty)) && error == 0;
      }
      if (taken) {
        gone++;
        continue;
      }
      if (gone > 0) {
        Punch(run[i - gone], gone);
        // Whoever pins an unbacked frame uses it at once, so a frame is called that only when its old page is gone.
        for (size_t each = i - gone; each < i; each++)
          if (zero[each]) SetState(run[each], kFrameUnbacked);
        header_->resident.fetch_sub(static_cast<uint32_t>(gone));
        header_->evicted.fetch_add(static_cast<uint32_t>(gone));
        evicted += static_cast<int64_t>(gone);
        gone = 0;
      }
      if (i < run.size()) {
        Protect(run[i], 1, false);
        if (error == 0) header_->cancelled.fetch_add(1);
      }
    }
    from = to;
  }
  return evicted > 0 || error == 0 ? evicted : -error;
}

// Writes a run of neighbours to the page file, except those that are all zero. 0 or an errno.
int Pager::CopyOut(std::vector<Frame>& run, std::vector<bool>& zero) {
  Range& range = *run[0].range;
  const uint64_t first = run[0].index;
  for (size_t i = 0; i < run.size(); i++) {
    const uint8_t* page = range.memory + (first + i) * kPage;
    zero[i] = IsZero(page);
    if (!zero[i]) range.sums[first + i] = PageSum(page);
  }
  for (size_t i = 0; i < run.size();) {
    if (zero[i]) {
      i++;
      continue;
    }
    size_t end = i + 1;
    while (end < run.size() && !zero[end]) end++;
    const uint8_t* bytes = range.memory + (first + i) * kPage;
    const uint64_t length = (end - i) * kPage;
    for (uint64_t done = 0; done < length;) {
      const ssize_t part = pwrite(options_.file, bytes + done, length - done,
                                  static_cast<off_t>((range.gfn + first + i) * kPage + done));
      if (part < 0 && errno == EINTR) continue;
      if (part <= 0) return part < 0 ? errno : ENOSPC;
      done += static_cast<uint64_t>(part);
    }
    i = end;
  }
  return 0;
}

}  // namespace xenshim
