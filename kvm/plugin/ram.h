// What QEMU has told KVM about memory: where guest RAM lies in which shared file, and our own pages in the guest.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/kvm_abi.h"

namespace xenshim {

// KVM slots kept for pages of our own, taken from the top; QEMU is told of that many fewer.
constexpr int kOwnSlots = 128;

void SetSlotCount(int all);
// QEMU has set a slot of the ordinary address space.
void NoteSlot(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, uint64_t hva);
// Tells the shim where RAM is, if it has changed since it was last told.
void AnnounceRamIfChanged();

// A mapping of a file with guest RAM in it, whole.
struct RamMapping {
  uint64_t file, offset, hva, length;
};
// Those of all files the shim has been told of.
std::vector<RamMapping> RamMappings();

// Where QEMU has `length` bytes of the guest's memory, RAM or an own page; null if they are not in one piece. For use at
// once: QEMU may unmap RAM that is unplugged.
uint8_t* HostAddress(uint64_t gpa, uint64_t length);
// A frame of the guest's memory mapped for as long as it is held. Null if there is none.
using GuestPage = std::shared_ptr<uint8_t>;
GuestPage MapGuestPage(uint64_t gfn);
// Parts of guest RAM between two guest-physical addresses, and where QEMU has them.
struct RamSpan {
  uint64_t gpa, size;
  uint8_t* host;
};
std::vector<RamSpan> RamSpans(uint64_t from, uint64_t to);

// Descriptor and length of the own pages, taken over from the shim.
bool SetOwnPages(int fd, uint64_t pages);
// 0 or negative errno.
int PlaceOwnPage(uint64_t gfn, uint64_t page);
int RemoveOwnPage(uint64_t gfn);
void RemoveAllOwnPages();

}  // namespace xenshim
