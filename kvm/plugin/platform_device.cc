// Configuration space of the Xen platform device 5853:0001 (class 0xff80, an I/O and a prefetchable memory BAR).
#include <cstring>

#include "plugin/log.h"
#include "plugin/pci.h"

namespace xenshim {
namespace {

constexpr uint32_t kIoSize = 0x100;
constexpr uint32_t kMemorySize = 0x1000000;

bool placed = false;
Bdf where = 0;
uint8_t config[256];

uint32_t Word(unsigned reg) {
  uint32_t value;
  std::memcpy(&value, config + reg, sizeof value);
  return value;
}

}  // namespace

bool IsPlatformDevice(Bdf bdf) { return placed && bdf == where; }

void PlacePlatformDevice(Bdf bdf) {
  placed = true;
  where = bdf;
  ResetPlatformDevice();
  Log(Level::kDebug, "platform device at 00:%02x.%x", bdf >> 3 & 31, bdf & 7);
}

void ResetPlatformDevice() {
  static constexpr uint8_t kInitial[] = {
      0x53, 0x58, 0x01, 0x00,  // vendor, device
      0x00, 0x00, 0x00, 0x00,  // command, status
      0x01, 0x00, 0x80, 0xff,  // revision, class 0xff80
      0x00, 0x00, 0x00, 0x00,  // header type 0
      0x01, 0x00, 0x00, 0x00,  // BAR0: I/O
      0x08, 0x00, 0x00, 0x00,  // BAR1: memory, prefetchable
  };
  std::memset(config, 0, sizeof config);
  std::memcpy(config, kInitial, sizeof kInitial);
  std::memcpy(config + 0x2c, kInitial, 4);  // subsystem = the device itself
  config[0x3d] = 1;                         // INTA
}

uint32_t PlatformConfigRead(unsigned reg, unsigned size) {
  uint32_t value = ~0u;
  if (reg + size <= sizeof config) std::memcpy(&value, config + reg, size);
  return size == 4 ? value : value & ((1u << size * 8) - 1);
}

void PlatformConfigWrite(unsigned reg, unsigned size, uint32_t value) {
  for (unsigned i = 0; i < size; i++, value >>= 8) {
    const unsigned at = reg + i;
    const uint8_t byte = static_cast<uint8_t>(value);
    if (at == 0x04) config[at] = byte & 0x07;
    if (at == 0x05) config[at] = byte & 0x04;
    if (at >= 0x10 && at < 0x18) config[at] = byte;
    if (at == 0x0c || at == 0x0d || at == 0x3c) config[at] = byte;
  }
  // Address bits below the size of a BAR are wired to zero, the type bits to themselves.
  const uint32_t io = (Word(0x10) & ~(kIoSize - 1)) | 1;
  const uint32_t memory = (Word(0x14) & ~(kMemorySize - 1)) | 8;
  std::memcpy(config + 0x10, &io, sizeof io);
  std::memcpy(config + 0x14, &memory, sizeof memory);
}

std::optional<unsigned> PlatformBarOffset(uint16_t port) {
  if (!placed || (config[4] & 1) == 0) return std::nullopt;
  const uint32_t base = Word(0x10) & ~(kIoSize - 1);
  if (base == 0 || port < base || port >= base + kIoSize) return std::nullopt;
  return port - base;
}

}  // namespace xenshim
