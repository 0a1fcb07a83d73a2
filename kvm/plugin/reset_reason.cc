#include "plugin/reset_reason.h"

#include <atomic>

#include "plugin/log.h"
#include "plugin/machine.h"

namespace xenshim {
namespace {

enum Reason : uint32_t { kNobody, kPort, kShim, kTripleFault };
std::atomic<uint32_t> reason{kNobody};

}  // namespace

void NotePortWrite(uint16_t port, unsigned size, uint32_t value) {
  if (size != 1) return;
  const bool reset = (port == 0xcf9 && (value & 0x04) != 0) ||     // PIIX and ICH: reset control register
                     (port == 0x64 && (value & 0xf1) == 0xf0) ||   // keyboard controller: pulse output line 0
                     (port == 0x92 && (value & 0x01) != 0);        // system control port A: fast reset
  if (reset) reason.store(kPort);
}

void NoteShimReset() { reason.store(kShim); }

void NoteTripleFault(Vcpu& vcpu) {
  reason.store(kTripleFault);
  kvm_regs regs{};
  kvm_sregs sregs{};
  const bool told = RealIoctl(vcpu.fd, KVM_GET_REGS, &regs) == 0 && RealIoctl(vcpu.fd, KVM_GET_SREGS, &sregs) == 0;
  // On AMD, KVM puts the vCPU into the state after INIT first, because the processor leaves none (svm.c).
  if (!told || (regs.rip == 0xfff0 && sregs.cr3 == 0)) {
    Log(Level::kWarn, "vCPU %u: triple fault, where is not known: the machine is reset", vcpu.id);
    return;
  }
  Log(Level::kWarn, "vCPU %u: triple fault at rip %llx, rsp %llx, cr2 %llx, cr3 %llx: the machine is reset", vcpu.id,
      regs.rip, regs.rsp, sregs.cr2, sregs.cr3);
}

void TellReset() {
  if (reason.exchange(kNobody) == kNobody)
    Log(Level::kWarn, "the machine is reset, and neither the guest nor xenshim asked for it: QEMU's monitor or a watchdog did");
}

}  // namespace xenshim
