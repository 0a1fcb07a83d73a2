#include "pager/pager.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

#include "core/uffd.h"
#include "pager/page_sum.h"

namespace xenshim {
namespace {

constexpr uint64_t kPage = 4096;
// The first MiB is the firmware's: its mapping is switched between ROM and RAM.
constexpr uint64_t kFirmwareFrames = 256;
// Frames made of zeros at once, in an aligned block: a guest's first use of its memory is mostly in sequence.
constexpr uint64_t kZeroBlock = 16;
// How often a full page file is tried again, ms.
constexpr int kRetryFull = 100;

void Signal(int fd) {
  const uint64_t one = 1;
  (void)!write(fd, &one, sizeof one);
}

uint64_t Now() {  // µs
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

void Drain(int fd) {
  uint64_t count;
  (void)!read(fd, &count, sizeof count);
}

}  // namespace

Pager::Pager(const PagerOptions& options) : options_(options) {}

Pager::~Pager() {
  Stop();
  for (Range& range : ranges_) munmap(const_cast<uint8_t*>(range.memory), range.pages * kPage);
  if (header_ != nullptr) munmap(header_, options_.words_bytes);
}

int Pager::Open() {
  void* words = mmap(nullptr, options_.words_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, options_.words_fd, 0);
  if (words == MAP_FAILED) return -errno;
  header_ = static_cast<FrameHeader*>(words);
  words_ = reinterpret_cast<std::atomic<uint32_t>*>(header_ + 1);
  const uint64_t covered = options_.words_bytes / 4 - sizeof(FrameHeader) / 4;
  uint32_t resident = 0;
  for (PagedRange given : options_.ranges) {
    // Frames without a word or of the firmware are left alone.
    const uint64_t skip = std::min(given.pages, given.gfn < kFirmwareFrames ? kFirmwareFrames - given.gfn : 0);
    given = {given.gfn + skip, given.pages - skip, given.hva + skip * kPage, given.fd, given.offset + skip * kPage};
    if (given.gfn >= covered) continue;
    given.pages = std::min(given.pages, covered - given.gfn);
    if (given.pages == 0) continue;
    void* memory = mmap(nullptr, given.pages * kPage, PROT_READ, MAP_SHARED, given.fd, static_cast<off_t>(given.offset));
    if (memory == MAP_FAILED) return -errno;
    ranges_.push_back({given, static_cast<const uint8_t*>(memory), std::vector<uint64_t>(given.pages)});
    // What the file has no page for has never been used.
    const off_t end = static_cast<off_t>(given.offset + given.pages * kPage);
    for (off_t at = static_cast<off_t>(given.offset); at < end;) {
      off_t data = lseek(given.fd, at, SEEK_DATA);
      if (data < 0 || data > end) data = end;
      off_t hole = data < end ? lseek(given.fd, data, SEEK_HOLE) : end;
      if (hole < 0 || hole > end) hole = end;
      for (; at < data; at += kPage) {
        // One that the guest has given back stays so.
        auto& word = words_[given.gfn + (static_cast<uint64_t>(at) - given.offset) / kPage];
        uint32_t ram = kFrameRam;
        word.compare_exchange_strong(ram, kFrameUnbacked);
      }
      resident += static_cast<uint32_t>((hole - data) / static_cast<off_t>(kPage));
      at = hole;
    }
  }
  header_->resident.store(resident);
  header_->max_resident.store(options_.max_resident);
  return 0;
}

void Pager::Start() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "xenshim-pager");
  started_ = true;
}

void Pager::Stop() {
  if (!started_) return;
  started_ = false;
  stop_.store(true);
  Signal(options_.bell);
  thread_.join();
  header_->max_resident.store(0);
}

void Pager::Run() {
  pollfd fds[2] = {{options_.uffd, POLLIN, 0}, {options_.bell, POLLIN, 0}};
  while (!stop_.load()) {
    header_->idle.store(1);
    // A request that came before the flag was up has rung no bell.
    const bool waiting = header_->head.load() != header_->tail.load();
    const int ready = poll(fds, 2, waiting ? 0 : -1);
    header_->idle.store(0);
    if (ready < 0 && errno != EINTR) return Fail(errno, 0);
    if ((fds[1].revents & POLLIN) != 0) Drain(options_.bell);
    if (header_->failed.load() != 0) {
      // Nobody is served any more, and who waits goes on waiting until the guest is ended.
      fds[0].fd = -1;
      continue;
    }
    std::lock_guard lock(mutex_);
    if ((fds[0].revents & (POLLERR | POLLHUP)) != 0) {
      // The process with the guest in it is gone.
      fds[0].fd = -1;
    } else if ((fds[0].revents & POLLIN) != 0) {
      ServeFaults();
    }
    ServeRing();
    TrimToLimit();
  }
}

void Pager::ServeFaults() {
  uffd_msg messages[32];
  const ssize_t length = read(options_.uffd, messages, sizeof messages);
  if (length < 0) {
    if (errno != EAGAIN && errno != EINTR) Fail(errno, 0);
    return;
  }
  for (size_t i = 0; i < static_cast<size_t>(length) / sizeof messages[0]; i++) {
    const uffd_msg& message = messages[i];
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;
    header_->faults.fetch_add(1);
    const uint64_t address = message.arg.pagefault.address & ~(kPage - 1);
    const Frame frame = FindHva(address);
    if (frame.range == nullptr) {
      // Memory of the guest's file that the pager does not look after: as if nobody watched.
      uffdio_zeropage zero{{address, kPage}, 0, 0};
      if (ioctl(options_.uffd, UFFDIO_ZEROPAGE, &zero) != 0) {
        uffdio_writeprotect open{{address, kPage}, 0};
        ioctl(options_.uffd, UFFDIO_WRITEPROTECT, &open);
        uffdio_range range{address, kPage};
        ioctl(options_.uffd, UFFDIO_WAKE, &range);
      }
      continue;
    }
    if (!PageIn(frame, (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0)) return;
  }
}

void Pager::ServeRing() {
  for (;;) {
    const uint32_t head = header_->head.load();
    if (head == header_->tail.load()) return;
    auto& slot = header_->ring[head % kPagerRing];
    // A slot is claimed before it is written; the writer is a few instructions away.
    const uint32_t request = slot.load();
    if (request == 0) return;
    slot.store(0);
    header_->head.store(head + 1);
    const Frame frame = Find(request - 1);
    if (frame.range == nullptr) continue;
    if (!PageIn(frame, false)) return;
    syscall(SYS_futex, &Word(frame), FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
    Signal(options_.done);
  }
}

bool Pager::PageIn(Frame frame, bool protection) {
  const uint64_t began = Now();
  header_->serving_since.store(static_cast<uint32_t>(began / 1000));
  header_->serving.store(static_cast<uint32_t>(frame.gfn() + 1));
  const bool done = Bring(frame, protection);
  header_->serving.store(0);
  const auto took = static_cast<uint32_t>(std::min<uint64_t>(Now() - began, UINT32_MAX));
  if (took > header_->slowest.load()) header_->slowest.store(took);
  return done;
}

bool Pager::Bring(Frame frame, bool protection) {
  auto& word = Word(frame);
  const uint32_t state = word.load() & kFrameStateMask;
  if (state == kFramePaged || state == kFramePagingIn) return CopyIn(frame);
  if (state == kFrameUnbacked || state == kFrameReleased) {
    if (state == kFrameUnbacked && !MakeRoom()) return false;
    ZeroIn(frame);
    return true;
  }
  // It has come back since the fault; or one of ours pinned it before it was ever used, and its page is not there yet.
  if (protection) {
    Protect(frame, 1, false);
  } else {
    uffdio_zeropage zero{{frame.hva(), kPage}, 0, 0};
    if (ioctl(options_.uffd, UFFDIO_ZEROPAGE, &zero) != 0) Wake(frame, 1);
  }
  return true;
}

template <typename Fit>
uint64_t Pager::Ahead(Frame frame, Fit fit) {
  const uint64_t gfn = frame.gfn();
  Stream* stream = nullptr;
  for (Stream& each : streams_)
    if (each.next == gfn) stream = &each;
  if (stream == nullptr) {
    stream = &streams_[oldest_stream_++ % kStreams];
    stream->count = 1;
  } else {
    stream->count = std::min(stream->count * 2, kMostAhead);
  }
  const uint32_t resident = header_->resident.load(), limit = header_->max_resident.load();
  const uint64_t most = std::min({stream->count, frame.range->pages - frame.index,
                                  static_cast<uint64_t>(resident < limit ? limit - resident : 1)});
  uint64_t count = 1;
  while (count < most && fit(Word({frame.range, frame.index + count}).load() & kFrameStateMask)) count++;
  stream->next = gfn + count;
  return count;
}

bool Pager::CopyIn(Frame frame) {
  if (!MakeRoom()) return false;
  const uint64_t count =
      ReadIn(frame, Ahead(frame, [](uint32_t state) { return state == kFramePaged || state == kFramePagingIn; }));
  if (count == 0) return false;
  for (uint64_t done = 0; done < count;) {
    const Frame at{frame.range, frame.index + done};
    uffdio_copy copy{at.hva(), reinterpret_cast<uint64_t>(pages_ + done * kPage), (count - done) * kPage, 0, 0};
    const int error = ioctl(options_.uffd, UFFDIO_COPY, &copy) == 0 ? 0 : errno;
    const uint64_t copied = copy.copy > 0 ? static_cast<uint64_t>(copy.copy) / kPage : 0;
    for (uint64_t i = 0; i < copied; i++) Settle({frame.range, at.index + i}, done + i == 0 ? kFrameReferenced : 0);
    done += copied;
    if (error == 0 || error == EAGAIN || copied > 0) continue;  // EAGAIN: QEMU changes its mappings at this moment
    // Those further on are nobody's yet: they stay where they are.
    if (done > 0) return true;
    // Its process has ended (ESRCH), or there is no memory; EEXIST would be somebody touching what is not there.
    if (error != ESRCH) Fail(error, frame.gfn());
    return false;
  }
  return true;
}

// Reads frames from the page file: how many of them are as they were written. 0 after Fail, if the first is not.
uint64_t Pager::ReadIn(Frame frame, uint64_t count) {
  const ssize_t length = pread(options_.file, pages_, count * kPage, static_cast<off_t>(frame.gfn() * kPage));
  const int error = length < 0 ? errno : ENODATA;
  for (uint64_t i = 0; i < count; i++) {
    const bool there = length >= static_cast<ssize_t>((i + 1) * kPage);
    if (there && PageSum(pages_ + i * kPage) == frame.range->sums[frame.index + i]) continue;
    // Nobody has asked for the others yet.
    if (i == 0) Fail(there ? EUCLEAN : error, frame.gfn());
    return i;
  }
  return count;
}

// The page of a frame is there: its word says so from now on, unless the guest has given the frame back in the meantime.
void Pager::Settle(Frame frame, uint32_t extra) {
  auto& word = Word(frame);
  uint32_t seen = word.load();
  do {
    const uint32_t state = seen & kFrameStateMask;
    if (state == kFrameReleased || state == kFrameUnbacked) return Punch(frame, 1);
    // Given back, had anew and pinned since: it is in use already, and counted.
    if (state != kFramePaged && state != kFramePagingIn) return;
  } while (!word.compare_exchange_weak(seen, kFrameRam | extra | (seen & kFrameDirty)));
  header_->resident.fetch_add(1);
  header_->paged_in.fetch_add(1);
}

void Pager::ZeroIn(Frame frame) {
  const uint64_t first = frame.index & ~(kZeroBlock - 1);
  uint64_t begin = frame.index, end = frame.index + 1;
  auto claim = [&](uint64_t index) {
    auto& word = Word({frame.range, index});
    uint32_t seen = word.load();
    if ((seen & ~kFrameDirty) != kFrameUnbacked) return false;
    const uint32_t mark = index == frame.index ? kFrameReferenced : 0;
    if (!word.compare_exchange_strong(seen, kFrameRam | mark | (seen & kFrameDirty))) return false;
    header_->resident.fetch_add(1);
    header_->zeroed.fetch_add(1);
    return true;
  };
  claim(frame.index);
  const uint32_t limit = header_->max_resident.load();
  if (header_->resident.load() + kZeroBlock < limit - limit / 8) {
    // Neighbours, as long as the limit is not near.
    while (begin > first && claim(begin - 1)) begin--;
    while (end < std::min(first + kZeroBlock, frame.range->pages) && claim(end)) end++;
  } else {
    const uint64_t last = frame.index + Ahead(frame, [](uint32_t state) { return state == kFrameUnbacked; });
    while (end < last && claim(end)) end++;
  }
  while (begin < end) {
    uffdio_zeropage zero{{frame.range->hva + begin * kPage, (end - begin) * kPage}, 0, 0};
    if (ioctl(options_.uffd, UFFDIO_ZEROPAGE, &zero) == 0) return;
    if (zero.zeropage > 0) begin += static_cast<uint64_t>(zero.zeropage) / kPage;
    if (errno == EAGAIN || zero.zeropage > 0) continue;
    // One of our threads was quicker: the page is there.
    Wake({frame.range, begin}, 1);
    begin++;
  }
}

void Pager::TrimToLimit() {
  while (header_->resident.load() > header_->max_resident.load()) {
    const int64_t evicted = EvictSome();
    if (evicted <= 0) return;
  }
}

bool Pager::MakeRoom() {
  while (header_->resident.load() >= header_->max_resident.load()) {
    const int64_t evicted = EvictSome();
    if (evicted > 0) continue;
    if (evicted == 0) {
      // All pinned: over the limit rather than stuck.
      header_->crowded.fetch_add(1);
      break;
    }
    // The page file is full. The guest waits until there is room again, for nothing of it may be lost.
    if (header_->blocked.exchange(static_cast<uint32_t>(-evicted)) == 0) Signal(options_.done);
    pollfd bell{options_.bell, POLLIN, 0};
    if (poll(&bell, 1, kRetryFull) > 0) Drain(options_.bell);
    if (stop_.load()) return false;
  }
  if (header_->blocked.exchange(0) != 0) Signal(options_.done);
  return true;
}

void Pager::Protect(Frame frame, uint64_t pages, bool on) {
  uffdio_writeprotect protect{{frame.hva(), pages * kPage}, on ? uint64_t{UFFDIO_WRITEPROTECT_MODE_WP} : 0};
  while (ioctl(options_.uffd, UFFDIO_WRITEPROTECT, &protect) != 0 && errno == EAGAIN) {
  }
}

void Pager::Wake(Frame frame, uint64_t pages) {
  uffdio_range range{frame.hva(), pages * kPage};
  ioctl(options_.uffd, UFFDIO_WAKE, &range);
}

void Pager::Punch(Frame frame, uint64_t pages) {
  fallocate(frame.range->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            static_cast<off_t>(frame.range->offset + frame.index * kPage), static_cast<off_t>(pages * kPage));
}

void Pager::Fail(int error, uint64_t gfn) {
  header_->failed_gfn.store(static_cast<uint32_t>(gfn));
  header_->failed.store(static_cast<uint32_t>(error));
  Signal(options_.done);
}

Pager::Frame Pager::Find(uint64_t gfn) {
  for (Range& range : ranges_)
    if (gfn >= range.gfn && gfn < range.gfn + range.pages) return {&range, gfn - range.gfn};
  return {nullptr, 0};
}

Pager::Frame Pager::FindHva(uint64_t hva) {
  for (Range& range : ranges_)
    if (hva >= range.hva && hva < range.hva + range.pages * kPage) return {&range, (hva - range.hva) / kPage};
  return {nullptr, 0};
}

}  // namespace xenshim
