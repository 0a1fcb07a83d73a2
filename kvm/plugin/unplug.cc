// Unplug of emulated devices: the functions of the classes named disappear from configuration space until the next
// reset. QEMU keeps them; the guest no longer finds them.
#include <bitset>
#include <memory>
#include <vector>

#include "plugin/log.h"
#include "plugin/pci.h"

namespace xenshim {
namespace {

constexpr uint32_t kDisks = 1, kNics = 2, kAuxiliaryDisks = 4, kNvme = 8;

std::bitset<65536> hidden;

bool Meant(uint32_t mask, uint32_t class_code) {
  switch (class_code) {
    case 0x0100:  // SCSI, virtio-blk
    case 0x0101:  // IDE
    case 0x0104:  // RAID
    case 0x0106:  // AHCI
    case 0x0107:  // SAS
      return (mask & kDisks) != 0;
    case 0x0108:
      return (mask & kNvme) != 0;
    default:
      return class_code >> 8 == 0x02 && (mask & kNics) != 0;
  }
}

// Walks the buses: each function's class, and behind each bridge its secondary bus.
class Survey {
 public:
  explicit Survey(uint32_t mask) : mask_(mask) { known_.set(0); }

  std::optional<uint32_t> operator()(uint32_t value) {
    switch (asked_) {
      case Asked::kNothing:
        break;
      case Asked::kHeader:
        if ((bdf_ & 7) == 0) multifunction_ = (value >> 16 & 0x80) != 0;
        if ((value >> 16 & 0x7f) == 1) {
          asked_ = Asked::kBuses;
          return ConfigAddress(bdf_, 0x18);
        }
        return NextFunction();
      case Asked::kBuses: {
        const unsigned secondary = value >> 8 & 0xff;
        // The guest sets these numbers: each bus is walked once, whatever they say.
        if (!known_.test(secondary)) buses_.push_back(secondary);
        known_.set(secondary);
        return NextFunction();
      }
      case Asked::kClass: {
        const uint32_t class_code = value >> 16;
        if (value == ~0u) return (bdf_ & 7) == 0 ? NextDevice() : NextFunction();
        if (Meant(mask_, class_code) && !IsPlatformDevice(bdf_) && !hidden.test(bdf_)) {
          hidden.set(bdf_);
          Log(Level::kInfo, "unplugged %02x:%02x.%x, class %04x", bdf_ >> 8, bdf_ >> 3 & 31, bdf_ & 7, class_code);
        }
        asked_ = Asked::kHeader;
        return ConfigAddress(bdf_, 0x0c);
      }
    }
    bdf_ = MakeBdf(0, 0, 0);
    return AskClass();
  }

 private:
  std::optional<uint32_t> AskClass() {
    asked_ = Asked::kClass;
    return ConfigAddress(bdf_, 0x08);
  }
  std::optional<uint32_t> NextFunction() {
    if (!multifunction_ || (bdf_ & 7) == 7) return NextDevice();
    bdf_++;
    return AskClass();
  }
  std::optional<uint32_t> NextDevice() {
    multifunction_ = false;
    if ((bdf_ >> 3 & 31) == 31) {
      if (++bus_ >= buses_.size()) return std::nullopt;
      bdf_ = MakeBdf(buses_[bus_], 0, 0);
    } else {
      bdf_ = static_cast<Bdf>((bdf_ | 7) + 1);
    }
    return AskClass();
  }

  enum class Asked { kNothing, kClass, kHeader, kBuses } asked_ = Asked::kNothing;
  uint32_t mask_;
  Bdf bdf_ = 0;
  bool multifunction_ = false;
  std::vector<unsigned> buses_{0};
  std::bitset<256> known_;
  size_t bus_ = 0;
};

}  // namespace

bool IsHidden(Bdf bdf) { return hidden.test(bdf); }

void StartUnplug(Vcpu& vcpu, uint32_t mask) {
  // Bit 2 alone means "all IDE disks but the first", which hiding whole functions cannot express.
  if ((mask & (kDisks | kAuxiliaryDisks)) == kAuxiliaryDisks)
    Log(Level::kWarn, "unplug of auxiliary IDE disks only is not supported; they stay");
  if ((mask & (kDisks | kNics | kNvme)) == 0) return;
  vcpu.script = std::make_unique<ConfigScript>(vcpu, Survey(mask));
}

void ResetUnplug() { hidden.reset(); }

}  // namespace xenshim
