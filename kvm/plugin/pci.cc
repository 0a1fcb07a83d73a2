// Which port and memory accesses are ours: configuration space (0xcf8/0xcfc and q35's ECAM window), the unplug ports
// and the platform device's I/O BAR.
#include "plugin/pci.h"

#include <algorithm>
#include <cstring>

#include "plugin/log.h"
#include "plugin/reset_reason.h"

namespace xenshim {
namespace {

constexpr uint16_t kUnplugMagic = 0x49d2;
constexpr uint32_t kQ35HostBridge = 0x29c08086;

enum class Search { kNotYet, kUnderway, kDone } search = Search::kNotYet;
bool q35 = false;
uint64_t pciexbar = 0;

// What one access of a port instruction is about.
struct Access {
  bool write;
  unsigned size;
  uint8_t* data;

  uint32_t Value() const {
    uint32_t value = 0;
    std::memcpy(&value, data, size);
    return value;
  }
  void Answer(uint32_t value) const { std::memcpy(data, &value, size); }
};

// The device takes the first free slot from the top of bus 0, where nothing is put unless asked for by number.
void FindSlot(Vcpu& vcpu) {
  search = Search::kUnderway;
  int device = -1;
  vcpu.script = std::make_unique<ConfigScript>(vcpu, [device](uint32_t value) mutable -> std::optional<uint32_t> {
    if (device < 0) {
      device = 0;
      return ConfigAddress(MakeBdf(0, 0, 0), 0);
    }
    if (device == 0) {
      q35 = value == kQ35HostBridge;
      device = 0x1e;
      return ConfigAddress(MakeBdf(0, 0x1e, 0), 0);
    }
    if (value != ~0u && --device >= 2) return ConfigAddress(MakeBdf(0, static_cast<unsigned>(device), 0), 0);
    search = Search::kDone;
    if (value == ~0u) {
      PlacePlatformDevice(MakeBdf(0, static_cast<unsigned>(device), 0));
    } else {
      Log(Level::kError, "no free slot on PCI bus 0 for the Xen platform device: remove a device from the QEMU command");
    }
    return std::nullopt;
  });
}

IoVerdict ConfigAccess(Bdf bdf, unsigned reg, const Access& access) {
  if (q35 && access.write && bdf == 0) {
    // PCIEXBAR, which firmware moves, in parts perhaps: the window we watch follows.
    for (unsigned i = 0; i < access.size; i++)
      if (reg + i >= 0x60 && reg + i < 0x68) reinterpret_cast<uint8_t*>(&pciexbar)[reg + i - 0x60] = access.data[i];
  }
  if (IsHidden(bdf)) {
    if (!access.write) access.Answer(~0u);
    return IoVerdict::kOurs;
  }
  if (!IsPlatformDevice(bdf)) return IoVerdict::kQemus;
  if (access.write) {
    PlatformConfigWrite(reg, access.size, access.Value());
  } else {
    access.Answer(PlatformConfigRead(reg, access.size));
  }
  return IoVerdict::kOurs;
}

// Ports 0x10..0x13: the magic number, the version, and the plug (hvm-emulated-unplug).
void UnplugPort(Vcpu& vcpu, uint16_t port, const Access& access) {
  if (!access.write) {
    if (port == 0x10 && access.size == 2) return access.Answer(kUnplugMagic);
    if (port == 0x12 && access.size == 1) return access.Answer(1);
    return access.Answer(port == 0x10 && access.size == 1 ? 0 : ~0u);
  }
  const uint32_t value = access.Value();
  if (port == 0x10 && access.size == 2) {
    StartUnplug(vcpu, value);
  } else if (port == 0x12 && access.size == 2) {
    Log(Level::kDebug, "guest drivers: product %u", value);
  } else if (port == 0x10 && access.size == 4) {
    Log(Level::kDebug, "guest drivers: build %u", value);
  }
}

// The older protocol of some guests, in the I/O BAR: 1 to offset 4 means disks and NICs, to offset 8 it means disks,
// and 2 there NICs. Any other value means nothing.
void BarPort(Vcpu& vcpu, unsigned offset, const Access& access) {
  if (!access.write) return access.Answer(offset == 0 ? 0 : ~0u);
  const uint32_t value = access.Value();
  uint32_t mask = 0;
  if (offset == 4 && value == 1) mask = 1 | 2;
  if (offset == 8 && (value == 1 || value == 2)) mask = value;
  if (mask != 0) StartUnplug(vcpu, mask);
}

IoVerdict OnePort(Vcpu& vcpu, uint16_t port, const Access& access) {
  if (access.write) NotePortWrite(port, access.size, access.Value());
  if (port == 0xcf8 && access.size == 4 && access.write) {
    guest_cf8 = access.Value();
    return IoVerdict::kQemus;
  }
  if (port >= 0xcfc && port <= 0xcff && (guest_cf8 & 0x80000000u) != 0) {
    if (search == Search::kNotYet) {
      FindSlot(vcpu);
      return IoVerdict::kQemus;
    }
    const auto bdf = static_cast<Bdf>(guest_cf8 >> 8);
    return ConfigAccess(bdf, (guest_cf8 & 0xfc) + (port - 0xcfc), access);
  }
  if (port >= 0x10 && port <= 0x13) {
    UnplugPort(vcpu, port, access);
    return IoVerdict::kOurs;
  }
  if (const auto offset = PlatformBarOffset(port)) {
    BarPort(vcpu, *offset, access);
    return IoVerdict::kOurs;
  }
  return IoVerdict::kQemus;
}

}  // namespace

IoVerdict HandlePortIo(Vcpu& vcpu, uint32_t from) {
  const auto io = vcpu.run->io;
  auto* data = reinterpret_cast<uint8_t*>(vcpu.run) + io.data_offset;
  IoVerdict verdict = IoVerdict::kOurs;
  // A string instruction repeats one port, so all its accesses have one owner.
  for (uint32_t i = from; i < io.count; i++) {
    verdict = OnePort(vcpu, io.port, Access{io.direction == KVM_EXIT_IO_OUT, io.size, data + size_t{i} * io.size});
    if (vcpu.script) {
      // An access that is ours was carried out by starting the script; any other is looked at again behind it.
      vcpu.script->resume = verdict == IoVerdict::kOurs ? i + 1 : i;
      vcpu.script->Step(vcpu);
      return IoVerdict::kQemus;
    }
  }
  return verdict;
}

IoVerdict HandleMmio(Vcpu& vcpu) {
  auto& mmio = vcpu.run->mmio;
  if ((pciexbar & 1) == 0 || search != Search::kDone) return IoVerdict::kQemus;
  // Bits 2..1: 256, 128 or 64 MiB, that is as many buses; the address is aligned to it.
  const uint64_t size = 0x10000000ull >> std::min<uint64_t>(pciexbar >> 1 & 3, 2);
  const uint64_t base = pciexbar & ~(size - 1);
  const uint64_t offset = mmio.phys_addr - base;
  if (mmio.phys_addr < base || offset >= size || mmio.len > sizeof mmio.data) return IoVerdict::kQemus;
  const auto bdf = static_cast<Bdf>(offset >> 12);
  const unsigned reg = offset & 0xfff;
  if (IsPlatformDevice(bdf) && reg >= 256) {
    // A conventional device: nothing in extended space.
    if (!mmio.is_write) std::memset(mmio.data, 0, mmio.len);
    return IoVerdict::kOurs;
  }
  IoVerdict verdict = IoVerdict::kQemus;
  for (unsigned at = 0; at < mmio.len; at += 4)
    verdict = ConfigAccess(bdf, reg + at, Access{mmio.is_write != 0, std::min(mmio.len - at, 4u), mmio.data + at});
  return verdict;
}

void ResetPci() {
  ResetPlatformDevice();
  ResetUnplug();
  pciexbar = 0;
  guest_cf8 = 0;
  // Its script went with the old guest; the next guest's first access starts it anew.
  if (search == Search::kUnderway) search = Search::kNotYet;
}

}  // namespace xenshim
