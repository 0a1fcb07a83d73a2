// The pager: takes cold frames of a guest out of memory into a file, and brings them back when they are touched. QEMU's
// mapping waits in the kernel (userfaultfd); our own threads look at the frame's word first and ask through a ring.
//
// It runs in a thread of its own, so that a shim whose event loop is busy or waits cannot keep a vCPU waiting for ever.
#pragma once
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "core/frames.h"

namespace xenshim {

// Guest RAM the pager looks after: frames, where they are in QEMU's process, and in which file.
struct PagedRange {
  uint64_t gfn, pages;
  uint64_t hva;     // in the process the userfaultfd was made in
  int fd;
  uint64_t offset;  // in bytes, in `fd`
};

struct PagerOptions {
  int uffd = -1;
  int words_fd = -1;
  uint64_t words_bytes = 0;
  int file = -1;           // frame n is at n * 4096
  int bell = -1;           // eventfd: a request is in the ring, or the thread is to stop
  int done = -1;           // eventfd the pager writes when a request is served, or it is blocked or has failed
  uint32_t max_resident = 0;
  std::vector<PagedRange> ranges;
};

class Pager {
  static constexpr uint64_t kMostAhead = 16;
  static constexpr size_t kStreams = 4;

 public:
  // Descriptors are the caller's and stay open until the pager has been destroyed.
  explicit Pager(const PagerOptions& options);
  ~Pager();
  Pager(const Pager&) = delete;

  // Maps memory and finds out which frames exist. 0 or a negative errno.
  int Open();
  void Start();
  void Stop();

  // Evicts what can be of `count` frames from `gfn` on: how many, or -EBUSY if none because of pins, -EAGAIN while the
  // pager is stuck with a full page file, or another errno.
  int64_t Evict(uint64_t gfn, uint64_t count);

 private:
  struct Range : PagedRange {
    const uint8_t* memory;
    std::vector<uint64_t> sums;  // of the contents in the page file
  };
  // A frame: its range and its index in it.
  struct Frame {
    Range* range;
    uint64_t index;
    uint64_t gfn() const { return range->gfn + index; }
    uint64_t hva() const { return range->hva + index * 4096; }
  };

  void Run();
  void ServeRing();
  void ServeFaults();
  // Brings a frame in; `write` if a write to a protected page waits. False after Fail.
  bool PageIn(Frame frame, bool protection);
  bool Bring(Frame frame, bool protection);
  bool CopyIn(Frame frame);
  // How many frames from `frame` on are worth bringing in at once: one, or more if those before were asked for in turn.
  // Only frames for which `fit` says so (of a state) are counted.
  template <typename Fit>
  uint64_t Ahead(Frame frame, Fit fit);
  uint64_t ReadIn(Frame frame, uint64_t count);
  void Settle(Frame frame, uint32_t extra);
  void ZeroIn(Frame frame);
  // Makes room for one more; waits while the page file is full. False when the pager is to stop.
  bool MakeRoom();
  void TrimToLimit();
  // Evicts up to a batch from the clock's hand on; how many, or a negative errno.
  int64_t EvictSome();
  int64_t EvictBatch(std::vector<Frame>& batch);
  bool Nominate(Frame frame);
  // Of a frame that nobody can pin; one given back stays so.
  void SetState(Frame frame, uint32_t state);
  int CopyOut(std::vector<Frame>& run, std::vector<bool>& zero);
  void Protect(Frame frame, uint64_t pages, bool on);
  void Wake(Frame frame, uint64_t pages);
  void Punch(Frame frame, uint64_t pages);
  void Fail(int error, uint64_t gfn);
  Frame Find(uint64_t gfn);
  Frame FindHva(uint64_t hva);
  std::atomic<uint32_t>& Word(Frame frame) { return words_[frame.gfn()]; }

  PagerOptions options_;
  FrameHeader* header_ = nullptr;
  std::atomic<uint32_t>* words_ = nullptr;
  std::vector<Range> ranges_;
  size_t hand_range_ = 0;
  uint64_t hand_index_ = 0;
  // Runs of frames that are being asked for in sequence: the next one expected, and how many to bring then.
  struct Stream {
    uint64_t next, count;
  };
  Stream streams_[kStreams]{};
  size_t oldest_stream_ = 0;
  std::timed_mutex mutex_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  bool started_ = false;
  alignas(4096) uint8_t pages_[kMostAhead * 4096];
};

}  // namespace xenshim
