// The Xen platform PCI device and the unplug protocol, played at the edge of QEMU's machine: port and ECAM accesses
// that concern the device, or functions the guest asked to unplug, are answered here; QEMU sees all others.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>

#include "plugin/machine.h"

namespace xenshim {

enum class IoVerdict { kOurs, kQemus };

// From the access numbered `from` of a string instruction on.
IoVerdict HandlePortIo(Vcpu& vcpu, uint32_t from = 0);
IoVerdict HandleMmio(Vcpu& vcpu);
void ResetPci();

// PCI address as in bits 23..8 of configuration address register 0xcf8: bus, device, function.
using Bdf = uint16_t;
constexpr Bdf MakeBdf(unsigned bus, unsigned device, unsigned function) {
  return static_cast<Bdf>(bus << 8 | device << 3 | function);
}

// Reads of QEMU's configuration space in the middle of a guest's port access. The guest's exit is kept aside; each read is
// made by showing QEMU an exit that the guest never caused. `next` gets the value last read (0 at first) and returns
// the configuration address to read next (bus, function, register), or nothing when it has seen enough.
class ConfigScript {
 public:
  using Next = std::function<std::optional<uint32_t>(uint32_t value)>;
  ConfigScript(Vcpu& vcpu, Next next);
  // Takes the result of the access shown last and shows the next. False when there is none left and the guest's exit
  // stands in the run structure again.
  bool Step(Vcpu& vcpu);
  // The access of the guest's string instruction at which to go on afterwards.
  uint32_t resume = 0;

 private:
  enum class Phase { kStart, kAddress, kData, kRestore } phase_ = Phase::kStart;
  Next next_;
  uint32_t exit_reason_;
  uint8_t exit_[64];
  uint8_t data_[64];
};

constexpr uint32_t ConfigAddress(Bdf bdf, unsigned reg) { return 0x80000000u | uint32_t{bdf} << 8 | (reg & 0xfc); }

// Continues the script of this vCPU. True: return to QEMU (an access of the script, or the guest's own exit).
bool ContinueScript(Vcpu& vcpu);
// The guest's last write to 0xcf8, which scripts put back.
extern uint32_t guest_cf8;

// platform_device.cc
bool IsPlatformDevice(Bdf bdf);
void PlacePlatformDevice(Bdf bdf);
uint32_t PlatformConfigRead(unsigned reg, unsigned size);
void PlatformConfigWrite(unsigned reg, unsigned size, uint32_t value);
// Offset into the device's I/O BAR, if the port is in it and the BAR is enabled.
std::optional<unsigned> PlatformBarOffset(uint16_t port);
void ResetPlatformDevice();

// unplug.cc
bool IsHidden(Bdf bdf);
// Mask of the unplug protocol (docs/misc/hvm-emulated-unplug.pandoc): looks for the functions meant, and hides them.
void StartUnplug(Vcpu& vcpu, uint32_t mask);
void ResetUnplug();

}  // namespace xenshim
