// Guest RAM as the shim is told of it, and pages of our own in the guest.
#include <cerrno>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "kernel.h"
#include "plugin/ram.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;
using xenshim::kPlacePage, xenshim::kRemovePage;

namespace {

constexpr uint64_t kMiB = 1 << 20;

char* Map(int fd, uint64_t size, int flags = MAP_SHARED) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  CHECK(memory != MAP_FAILED);
  return static_cast<char*>(memory);
}

int File(uint64_t size) {
  const int fd = memfd_create("ram", 0);
  CHECK(ftruncate(fd, static_cast<off_t>(size)) == 0);
  return fd;
}

int Set(const Qemu& qemu, uint32_t slot, uint64_t gpa, uint64_t size, const char* at, uint32_t flags = 0) {
  kvm_userspace_memory_region region{slot, flags, gpa, size, reinterpret_cast<uint64_t>(at)};
  return ioctl(qemu.vm, KVM_SET_USER_MEMORY_REGION, &region);
}

struct Range {
  uint64_t file, offset, gpa, size;
  bool operator==(const Range&) const = default;
};

struct Told {
  unsigned files = 0, times = 0;
  std::vector<Range> ranges;
};

// What a hypercall would have the plugin say first.
Told Announce() {
  xenshim::AnnounceRamIfChanged();
  Told told;
  uint64_t generation = 0;
  for (const auto& message : Heard()) {
    if (message.op == xenshim::kRamFile) EQUAL(message.arg[0], told.files++ + 0);
    if (message.op == xenshim::kRamBegin) {
      generation = message.arg[0];
      told.times++;
      told.ranges.clear();
    }
    if (message.op == xenshim::kRamRange)
      told.ranges.push_back({message.arg[0], message.arg[1], message.arg[2], message.arg[3]});
    if (message.op == xenshim::kRamEnd) {
      EQUAL(message.arg[0], generation);
      EQUAL(shared->header.ram_generation.load(), generation);
    }
  }
  return told;
}

}  // namespace

CASE(ram_ranges) {
  Qemu qemu;
  const int fd = File(64 * kMiB);
  char* ram = Map(fd, 64 * kMiB);
  // A PC: low memory in pieces, video memory's hole, the rest above 4 GiB.
  CHECK(Set(qemu, 0, 0, 0xa0000, ram) == 0);
  CHECK(Set(qemu, 1, 0xc0000, 0x10000, ram + 0xc0000, KVM_MEM_READONLY) == 0);
  CHECK(Set(qemu, 3, 0x100000, 31 * kMiB, ram + 0x100000) == 0);
  CHECK(Set(qemu, 2, 0xd0000, 0x30000, ram + 0xd0000) == 0);
  CHECK(Set(qemu, 7, 0x100000000, 32 * kMiB, ram + 32 * kMiB) == 0);
  // Not guest RAM another process could map: private memory, and SMRAM's address space.
  char* rom = Map(-1, kMiB, MAP_PRIVATE | MAP_ANONYMOUS);
  CHECK(Set(qemu, 4, 0xfff00000, kMiB, rom, KVM_MEM_READONLY) == 0);
  char* copy = Map(fd, kMiB, MAP_PRIVATE);
  CHECK(Set(qemu, 5, 0xffe00000, kMiB, copy, KVM_MEM_READONLY) == 0);
  CHECK(Set(qemu, 0x10000, 0xa0000, 0x20000, ram + 0xa0000) == 0);
  EQUAL(kernel.slots.size(), 8);
  const Told told = Announce();
  EQUAL(told.times, 1);
  EQUAL(told.files, 1);
  CHECK((told.ranges == std::vector<Range>{{0, 0, 0, 0xa0000},
                                           {0, 0xc0000, 0xc0000, 32 * kMiB - 0xc0000},
                                           {0, 32 * kMiB, 0x100000000, 32 * kMiB}}));
}

CASE(ram_changes) {
  Qemu qemu;
  const int fd = File(8 * kMiB);
  char* ram = Map(fd, 8 * kMiB);
  CHECK(Set(qemu, 0, 0, 8 * kMiB, ram) == 0);
  EQUAL(Announce().times, 1);
  EQUAL(Announce().times, 0);
  // The same memory cut up differently is no change.
  CHECK(Set(qemu, 0, 0, 0, ram) == 0);
  CHECK(Set(qemu, 0, 0, 4 * kMiB, ram) == 0);
  CHECK(Set(qemu, 1, 4 * kMiB, 4 * kMiB, ram + 4 * kMiB) == 0);
  EQUAL(Announce().times, 0);
  // A refused slot is none.
  kernel.refuse = KVM_SET_USER_MEMORY_REGION;
  kernel.refusal = EINVAL;
  CHECK(Set(qemu, 2, 0x10000000, kMiB, ram) == -1);
  EQUAL(errno, EINVAL);
  EQUAL(Announce().times, 0);
  CHECK(Set(qemu, 1, 0, 0, nullptr) == 0);
  const Told less = Announce();
  EQUAL(less.times, 1);
  EQUAL(less.files, 0);
  CHECK((less.ranges == std::vector<Range>{{0, 0, 0, 4 * kMiB}}));
  EQUAL(shared->header.ram_generation.load(), 2);
}

CASE(ram_files) {
  Qemu qemu;
  const int first = File(4 * kMiB), second = File(4 * kMiB);
  char* a = Map(first, 4 * kMiB);
  char* b = Map(second, 4 * kMiB);
  // Neighbours in the guest, but two files; and one file's halves the wrong way round.
  CHECK(Set(qemu, 0, 0, 4 * kMiB, a) == 0);
  CHECK(Set(qemu, 1, 4 * kMiB, 2 * kMiB, b + 2 * kMiB) == 0);
  CHECK(Set(qemu, 2, 6 * kMiB, 2 * kMiB, b) == 0);
  const Told told = Announce();
  EQUAL(told.files, 2);
  CHECK((told.ranges == std::vector<Range>{
             {0, 0, 0, 4 * kMiB}, {1, 2 * kMiB, 4 * kMiB, 2 * kMiB}, {1, 0, 6 * kMiB, 2 * kMiB}}));
  // The newer form of the call.
  xenshim::MemoryRegion2 region{};
  region.slot = 9;
  region.guest_phys_addr = 0x100000000;
  region.memory_size = kMiB;
  region.userspace_addr = reinterpret_cast<uint64_t>(a);
  CHECK(ioctl(qemu.vm, xenshim::kSetUserMemoryRegion2, &region) == 0);
  EQUAL(Announce().ranges.size(), 4);
}

CASE(ram_watched) {
  Qemu qemu;
  const int fd = File(8 * kMiB);
  char* ram = Map(fd, 8 * kMiB);
  char* other = Map(File(kMiB), kMiB);
  CHECK(Set(qemu, 0, 0, 2 * kMiB, ram) == 0);
  CHECK(Set(qemu, 1, 4 * kMiB, 4 * kMiB, ram + 4 * kMiB) == 0);
  EQUAL(Announce().files, 1);
  const auto reply = Ask(xenshim::kWatchRam, {});
  if (static_cast<int64_t>(reply.result) == -EPERM) return;  // not for everyone on this host
  EQUAL(reply.result, 0);
  // The whole mapping of the file, and no other.
  const auto heard = Heard();
  EQUAL(heard.size(), 2);
  EQUAL(heard[0].op, xenshim::kRamMapping);
  EQUAL(heard[0].arg[0], 0);
  EQUAL(heard[0].arg[1], 0);
  EQUAL(heard[0].arg[2], reinterpret_cast<uint64_t>(ram));
  EQUAL(heard[0].arg[3], 8 * kMiB);
  EQUAL(heard[1].op, xenshim::kRamWatch);
  EQUAL(Ask(xenshim::kWatchRam, {}).result, -EBUSY);
  other[0] = 1;
}

CASE(own_pages) {
  Qemu qemu;
  CHECK(ioctl(qemu.vm, KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_NR_MEMSLOTS)) == 509 - 128);
  EQUAL(Ask(kPlacePage, {0xfeffc, 0}).result, 0);
  EQUAL(Ask(kPlacePage, {0xfeffd, 1}).result, 0);
  EQUAL(kernel.slots.size(), 2);
  const auto& top = kernel.slots[508];
  EQUAL(top.guest_phys_addr, 0xfeffc000);
  EQUAL(top.memory_size, 4096);
  EQUAL(kernel.slots[507].userspace_addr, top.userspace_addr + 4096);
  EQUAL(Ask(kPlacePage, {0xfeffc, 2}).result, -EEXIST);
  EQUAL(Ask(kPlacePage, {0xfefff, 8}).result, -EINVAL);
  EQUAL(Ask(kPlacePage, {~uint64_t{0}, 0}).result, -EINVAL);
  // Something of QEMU's lies there: nothing is left behind.
  kernel.refuse = KVM_SET_USER_MEMORY_REGION;
  kernel.refusal = EEXIST;
  EQUAL(Ask(kPlacePage, {0x1000, 2}).result, -EEXIST);
  EQUAL(Ask(kPlacePage, {0x1000, 2}).result, 0);
  EQUAL(Ask(kRemovePage, {0xfeffc}).result, 0);
  CHECK(!kernel.slots.contains(508));
  EQUAL(Ask(kRemovePage, {0xfeffc}).result, 0);
  EQUAL(Ask(kPlacePage, {0xfeffe, 3}).result, 0);
  EQUAL(kernel.slots[508].guest_phys_addr, 0xfeffe000);
  EQUAL(Announce().times, 0);
}

CASE(own_pages_limit) {
  Qemu qemu;
  for (uint64_t i = 0; i < 128; i++) EQUAL(Ask(kPlacePage, {0x10000 + i, i % 8}).result, 0);
  EQUAL(Ask(kPlacePage, {0x20000, 0}).result, -ENOSPC);
  EQUAL(kernel.slots.size(), 128);
  EQUAL(kernel.slots.begin()->first, 509 - 128);
  EQUAL(Ask(kRemovePage, {0x10005}).result, 0);
  EQUAL(Ask(kPlacePage, {0x20000, 0}).result, 0);
  // A reset of the machine takes all of them away.
  kernel.vcpus[qemu.vcpus[0]].run->immediate_exit = 1;
  CHECK(qemu.Go());
  qemu.SetSregs(0);
  EQUAL(kernel.slots.size(), 0);
}
