#include "plugin/ram.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "plugin/channel.h"
#include "plugin/log.h"
#include "plugin/machine.h"

namespace xenshim {
namespace {

struct MemSlot {
  uint64_t gpa, size, hva;
};

// A range of guest RAM in a file: what the shim is told.
struct Range {
  uint64_t file, offset, gpa, size;
  bool operator==(const Range&) const = default;
};

struct File {
  dev_t device;
  ino_t inode;
};

std::mutex mutex;
// Not destroyed, as `own_slots`: threads of ours may still look when QEMU exits.
auto& slots = *new std::map<uint32_t, MemSlot>;
bool dirty = true;
std::vector<File> files;      // those already sent; the index is the id
std::vector<Range> announced;
int slot_count = 509;
char* own_memory = nullptr;
uint64_t own_count = 0;
struct OwnSlot {
  uint32_t slot;
  uint64_t page;
};
auto& own_slots = *new std::map<uint64_t, OwnSlot>;  // by gfn

// The mapping that holds `hva`: its file's identity and the offset of `hva` in it. Private mappings are not RAM that
// another process could share.
struct Backing {
  dev_t device = 0;
  ino_t inode = 0;
  uint64_t offset = 0;
  uint64_t end = 0;
};

std::vector<std::pair<uint64_t, Backing>> SharedMappings() {
  std::vector<std::pair<uint64_t, Backing>> found;
  FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return found;
  char line[512];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    uint64_t start, end, offset;
    unsigned major_number, minor_number;
    unsigned long inode;
    char permissions[8];
    if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %lu", &start, &end, permissions, &offset,
                    &major_number, &minor_number, &inode) != 7)
      continue;
    if (inode == 0 || permissions[3] != 's') continue;
    found.push_back({start, Backing{makedev(major_number, minor_number), inode, offset, end}});
  }
  std::fclose(maps);
  return found;
}

int DescriptorOf(const Backing& backing) {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return -1;
  int found = -1;
  while (dirent* entry = readdir(directory)) {
    struct stat status;
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(directory) || fstat(fd, &status) != 0) continue;
    if (status.st_ino == backing.inode && status.st_dev == backing.device) {
      found = fd;
      break;
    }
  }
  closedir(directory);
  return found;
}

uint64_t FileId(const Backing& backing) {
  for (size_t i = 0; i < files.size(); i++)
    if (files[i].device == backing.device && files[i].inode == backing.inode) return i;
  const int fd = DescriptorOf(backing);
  if (fd < 0) return kNone;
  Message message{.op = kRamFile};
  message.arg[0] = files.size();
  SendMessage(message, fd);
  files.push_back({backing.device, backing.inode});
  return files.size() - 1;
}

// Guest RAM in guest-physical order, neighbours joined.
std::vector<Range> Layout() {
  const auto mappings = SharedMappings();
  std::vector<Range> ranges;
  for (const auto& [id, slot] : slots) {
    for (uint64_t done = 0; done < slot.size;) {
      const uint64_t hva = slot.hva + done;
      const auto* hit = static_cast<const std::pair<uint64_t, Backing>*>(nullptr);
      for (const auto& mapping : mappings)
        if (hva >= mapping.first && hva < mapping.second.end) hit = &mapping;
      if (hit == nullptr) break;
      const uint64_t length = std::min(slot.size - done, hit->second.end - hva);
      const uint64_t file = FileId(hit->second);
      if (file != kNone) ranges.push_back({file, hit->second.offset + (hva - hit->first), slot.gpa + done, length});
      done += length;
    }
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.gpa < b.gpa; });
  std::vector<Range> joined;
  for (const Range& range : ranges) {
    if (!joined.empty()) {
      Range& last = joined.back();
      if (last.file == range.file && last.gpa + last.size == range.gpa && last.offset + last.size == range.offset) {
        last.size += range.size;
        continue;
      }
    }
    joined.push_back(range);
  }
  return joined;
}

// KVM waits, before a change of slots is done, for all vCPUs to leave its read-side sections, and its SCHEDOP_poll sleeps
// inside one: a vCPU that polls for a spin lock held by the very vCPU whose hypercall makes the change would never wake.
// A kick ends the poll, which guests take as a spurious wake.
class Kicker {
 public:
  Kicker() : thread_([this] { Run(); }) {}
  ~Kicker() {
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::milliseconds(5), [this] { return done_; }))
      for (auto& vcpu : machine.vcpus) Kick(*vcpu);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

int SetRegion(kvm_userspace_memory_region& region) {
  int rc, error;
  {
    const Kicker kicker;
    rc = RealIoctl(machine.vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
    error = errno;
  }
  errno = error;
  return rc;
}

}  // namespace

void SetSlotCount(int all) { slot_count = all; }

void NoteSlot(uint32_t slot, uint32_t, uint64_t gpa, uint64_t size, uint64_t hva) {
  std::lock_guard lock(mutex);
  if (size == 0) {
    slots.erase(slot);
  } else {
    slots[slot] = {gpa, size, hva};
  }
  dirty = true;
}

void AnnounceRamIfChanged() {
  std::lock_guard lock(mutex);
  if (!dirty) return;
  dirty = false;
  auto layout = Layout();
  if (layout == announced) return;
  announced = std::move(layout);
  Header& header = machine.shared->header;
  const uint32_t generation = header.ram_generation.load() + 1;
  Message message{.op = kRamBegin};
  message.arg[0] = generation;
  SendMessage(message);
  for (const Range& range : announced) {
    Message entry{.op = kRamRange};
    entry.arg[0] = range.file;
    entry.arg[1] = range.offset;
    entry.arg[2] = range.gpa;
    entry.arg[3] = range.size;
    SendMessage(entry);
  }
  message.op = kRamEnd;
  SendMessage(message);
  header.ram_generation.store(generation);
}

std::vector<RamMapping> RamMappings() {
  std::lock_guard lock(mutex);
  std::vector<RamMapping> found;
  for (const auto& [hva, backing] : SharedMappings())
    for (size_t id = 0; id < files.size(); id++)
      if (files[id].device == backing.device && files[id].inode == backing.inode)
        found.push_back({id, backing.offset, hva, backing.end - hva});
  return found;
}

// Takes the lock as held.
static uint8_t* AddressLocked(uint64_t gpa, uint64_t length) {
  if (const auto own = own_slots.find(gpa >> 12); own != own_slots.end() && (gpa & 0xfff) + length <= 4096)
    return reinterpret_cast<uint8_t*>(own_memory) + own->second.page * 4096 + (gpa & 0xfff);
  for (const auto& [id, slot] : slots)
    if (gpa >= slot.gpa && gpa - slot.gpa < slot.size && length <= slot.size - (gpa - slot.gpa))
      return reinterpret_cast<uint8_t*>(slot.hva + (gpa - slot.gpa));
  return nullptr;
}

uint8_t* HostAddress(uint64_t gpa, uint64_t length) {
  std::lock_guard lock(mutex);
  return AddressLocked(gpa, length);
}

GuestPage MapGuestPage(uint64_t gfn) {
  std::lock_guard lock(mutex);
  if (gfn >= (uint64_t{1} << 40)) return {};
  uint8_t* host = AddressLocked(gfn * 4096, 4096);
  if (host == nullptr) return {};
  if (own_slots.contains(gfn)) return GuestPage(host, [](uint8_t*) {});
  const auto hva = reinterpret_cast<uint64_t>(host);
  for (const auto& [start, backing] : SharedMappings()) {
    if (hva < start || hva >= backing.end) continue;
    const int fd = DescriptorOf(backing);
    if (fd < 0) return {};
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(backing.offset + (hva - start)));
    if (page == MAP_FAILED) return {};
    return GuestPage(static_cast<uint8_t*>(page), [](uint8_t* mapped) { munmap(mapped, 4096); });
  }
  return {};
}

std::vector<RamSpan> RamSpans(uint64_t from, uint64_t to) {
  std::lock_guard lock(mutex);
  std::vector<RamSpan> found;
  for (const auto& [id, slot] : slots) {
    const uint64_t first = std::max(from, slot.gpa), end = std::min(to, slot.gpa + slot.size);
    if (first < end) found.push_back({first, end - first, reinterpret_cast<uint8_t*>(slot.hva + (first - slot.gpa))});
  }
  return found;
}

bool SetOwnPages(int fd, uint64_t pages) {
  void* memory = mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return false;
  own_memory = static_cast<char*>(memory);
  own_count = pages;
  return true;
}

int PlaceOwnPage(uint64_t gfn, uint64_t page) {
  std::lock_guard lock(mutex);
  if (page >= own_count || gfn >= (uint64_t{1} << 40)) return -EINVAL;
  if (own_slots.contains(gfn)) return -EEXIST;
  uint32_t slot = 0;
  for (int i = 1; i <= kOwnSlots && slot == 0; i++) {
    const uint32_t candidate = static_cast<uint32_t>(slot_count - i);
    const bool taken =
        std::any_of(own_slots.begin(), own_slots.end(), [&](const auto& own) { return own.second.slot == candidate; });
    if (!taken) slot = candidate;
  }
  if (slot == 0) return -ENOSPC;
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.guest_phys_addr = gfn * 4096;
  region.memory_size = 4096;
  region.userspace_addr = reinterpret_cast<uint64_t>(own_memory + page * 4096);
  if (SetRegion(region) != 0) return -errno;
  own_slots[gfn] = {slot, page};
  return 0;
}

static int RemoveLocked(std::map<uint64_t, OwnSlot>::iterator own) {
  kvm_userspace_memory_region region{};
  region.slot = own->second.slot;
  region.guest_phys_addr = own->first * 4096;
  const int rc = SetRegion(region) != 0 ? -errno : 0;
  own_slots.erase(own);
  return rc;
}

int RemoveOwnPage(uint64_t gfn) {
  std::lock_guard lock(mutex);
  const auto own = own_slots.find(gfn);
  return own == own_slots.end() ? 0 : RemoveLocked(own);
}

void RemoveAllOwnPages() {
  std::lock_guard lock(mutex);
  while (!own_slots.empty()) RemoveLocked(own_slots.begin());
}

}  // namespace xenshim
