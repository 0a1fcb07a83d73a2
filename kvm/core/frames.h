// The state of every guest frame, shared by the pager's thread and all threads of the shim: a header and then a word per
// frame number, in a memfd. Changed only by compare-and-exchange, so that a pin and an eviction of one frame exclude
// each other without a lock.
#pragma once
#include <atomic>
#include <cstdint>

namespace xenshim {

// Bits 0…3 of a word.
enum FrameState : uint32_t {
  kFrameRam = 0,        // there, or nothing the pager looks after
  kFramePagingOut = 1,  // being copied out; still there, and a pin cancels the eviction
  kFramePaged = 2,      // in the page file only
  kFramePagingIn = 3,   // asked for
  kFrameUnbacked = 4,   // never used, or all zero when it was evicted: a page of zeros when touched
  kFrameReleased = 5,   // given back by the guest: a hole
};

constexpr uint32_t kFrameStateMask = 0xf;
constexpr uint32_t kFrameReferenced = 0x10;  // used since the clock's hand was here
constexpr uint32_t kFrameDirty = 0x20;       // written by a backend since somebody asked
constexpr uint32_t kFramePin = 0x100;        // one pin; bits 8…31 count them

// Entries of the pager's request ring; a power of two.
constexpr uint32_t kPagerRing = 256;

struct FrameHeader {
  std::atomic<uint32_t> counting;      // pins are counted: somebody may take frames away
  std::atomic<uint32_t> tracking;      // backends' writes set kFrameDirty
  std::atomic<uint32_t> resident;      // frames the pager looks after that are there
  std::atomic<uint32_t> max_resident;  // 0: no pager
  std::atomic<uint32_t> idle;          // the pager sleeps: ring its bell
  std::atomic<uint32_t> head, tail;    // of the ring: taken, claimed
  std::atomic<uint32_t> blocked;       // errno of the page file while evictions wait for room, else 0
  std::atomic<uint32_t> failed;        // errno that ended the pager; nothing is paged in any more
  std::atomic<uint32_t> failed_gfn;
  // Counters.
  std::atomic<uint32_t> faults;        // of QEMU's process
  std::atomic<uint32_t> requests;      // of the shim's threads
  std::atomic<uint32_t> refused;       // requests that found the ring full
  std::atomic<uint32_t> paged_in;
  std::atomic<uint32_t> zeroed;
  std::atomic<uint32_t> evicted;
  std::atomic<uint32_t> cancelled;     // evictions given up for a pin
  std::atomic<uint32_t> eagain;        // lookups that had to be told to come again
  std::atomic<uint32_t> released;      // frames in state kFrameReleased
  std::atomic<uint32_t> serving;       // gfn + 1 of the page-in that is under way
  std::atomic<uint32_t> serving_since; // when it began, ms of CLOCK_MONOTONIC
  std::atomic<uint32_t> slowest;       // longest page-in, µs
  std::atomic<uint32_t> crowded;       // page-ins beyond the limit, because all that is there is pinned
  uint32_t reserved[41];
  std::atomic<uint32_t> ring[kPagerRing];   // gfn + 1, 0 = not written yet
  std::atomic<uint32_t> asked[kPagerRing];  // when, ms of CLOCK_MONOTONIC
  uint8_t pad[4096 - 64 * 4 - 2 * kPagerRing * 4];
};
static_assert(sizeof(FrameHeader) == 4096);

}  // namespace xenshim
