// The exit slot: a vCPU thread hands its hypercall to the shim and waits, spinning briefly before it sleeps.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#include "plugin/log.h"
#include "plugin/machine.h"
#include "plugin/ram.h"

namespace xenshim {
namespace {

Slot& SlotOf(Vcpu& vcpu) { return machine.shared->slots[vcpu.id]; }

uint64_t Nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000 + uint64_t(now.tv_nsec);
}

void Post(Vcpu& vcpu, Slot& slot) {
  Header& header = machine.shared->header;
  AnnounceRamIfChanged();
  vcpu.in_slot = true;
  slot.state.store(kRequest);
  header.pending[vcpu.id / 32].fetch_or(1u << (vcpu.id % 32));
  if (header.sleeping.exchange(0) != 0) {
    const uint64_t one = 1;
    if (write(machine.doorbell, &one, sizeof one) < 0) Log(Level::kError, "doorbell: %m");
  }
}

// The answer goes where KVM takes it from when the vCPU enters the guest again.
void Finish(Vcpu& vcpu, Slot& slot) {
  if (slot.kind == kSlotHypercall) {
    if (vcpu.answer != nullptr) {
      vcpu.answer(vcpu, slot.result);
    } else {
      vcpu.run->xen.u.hcall.result = static_cast<uint64_t>(slot.result);
    }
  }
  slot.state.store(kIdle);
  vcpu.in_slot = false;
}

}  // namespace

void PostHypercall(Vcpu& vcpu) {
  const auto& hcall = vcpu.run->xen.u.hcall;
  Hypercall call{static_cast<uint32_t>(hcall.input), hcall.cpl, hcall.longmode != 0, {}};
  std::memcpy(call.args, hcall.params, sizeof call.args);
  kvm_sregs sregs{};
  RealIoctl(vcpu.fd, KVM_GET_SREGS, &sregs);
  PostHypercall(vcpu, call, sregs);
}

void PostHypercall(Vcpu& vcpu, const Hypercall& call, const kvm_sregs& sregs) {
  Slot& slot = SlotOf(vcpu);
  slot.kind = kSlotHypercall;
  slot.nr = call.nr;
  slot.cpl = call.cpl;
  slot.long_mode = call.long_mode;
  std::memcpy(slot.args, call.args, sizeof slot.args);
  slot.cr0 = sregs.cr0;
  slot.cr3 = sregs.cr3;
  slot.cr4 = sregs.cr4;
  slot.efer = sregs.efer;
  Post(vcpu, slot);
}

void PostReset(Vcpu& vcpu) {
  Slot& slot = SlotOf(vcpu);
  slot.kind = kSlotReset;
  Post(vcpu, slot);
}

bool WaitForAnswer(Vcpu& vcpu) {
  Slot& slot = SlotOf(vcpu);
  const uint64_t until = Nanoseconds() + machine.shared->header.spin_ns;
  for (bool spinning = true; slot.state.load() != kDone;) {
    if (spinning) {
      for (int i = 0; i < 32 && slot.state.load() != kDone; i++) __builtin_ia32_pause();
      spinning = Nanoseconds() < until;
      continue;
    }
    // QEMU wants its thread (pause, reset, quit), or the machine is to be switched off.
    if (vcpu.run->immediate_exit != 0 || machine.closed.load()) return false;
    if (vcpu.id == 0 && machine.power.load() != 0) return false;
    slot.waiting.store(1);
    // Bounded, because a kick between the checks above and the sleep would otherwise be missed.
    const timespec limit{0, 50'000'000};
    if (slot.state.load() != kDone)
      syscall(SYS_futex, &slot.state, FUTEX_WAIT, uint32_t{kRequest}, &limit, nullptr, 0);
    slot.waiting.store(0);
  }
  Finish(vcpu, slot);
  return true;
}

void DropSlot(Vcpu& vcpu) {
  Slot& slot = SlotOf(vcpu);
  machine.shared->header.pending[vcpu.id / 32].fetch_and(~(1u << (vcpu.id % 32)));
  slot.state.store(kIdle);
  vcpu.in_slot = false;
}

}  // namespace xenshim
