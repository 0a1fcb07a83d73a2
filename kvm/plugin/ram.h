// What QEMU has told KVM about memory: where guest RAM lies in which shared file, and our own pages in the guest.
#pragma once
#include <cstdint>
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

// Descriptor and length of the own pages, taken over from the shim.
bool SetOwnPages(int fd, uint64_t pages);
// 0 or negative errno.
int PlaceOwnPage(uint64_t gfn, uint64_t page);
int RemoveOwnPage(uint64_t gfn);
void RemoveAllOwnPages();

}  // namespace xenshim
