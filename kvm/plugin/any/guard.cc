#include "plugin/any/guard.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>

#include "plugin/any/calls.h"
#include "plugin/any/patch.h"
#include "plugin/any/watcher.h"
#include "plugin/log.h"
#include "plugin/machine.h"

namespace xenshim::any {
namespace {

std::atomic<bool> stopped{false};  // since the last reset
constexpr uint64_t kInterruptFlag = 1 << 9;

// A processor that has halted with interrupts off never goes on: how Linux ends when its first hypercalls fail.
bool Dead(Vcpu& vcpu) {
  kvm_mp_state state{};
  kvm_regs regs{};
  bool known = false;
  WithVcpu(vcpu, [&] {
    known = RealIoctl(vcpu.fd, KVM_GET_MP_STATE, &state) == 0 && RealIoctl(vcpu.fd, KVM_GET_REGS, &regs) == 0;
  });
  return known && state.mp_state == KVM_MP_STATE_HALTED && (regs.rflags & kInterruptFlag) == 0;
}

void Look() {
  static unsigned dead = 0;
  if (stopped.load()) return;
  if (LookAtStubs() == StubState::kRestored) {
    StopGuest("it has put back the Xen call instructions of its kernel, and its calls would be lost");
    return;
  }
  Vcpu* first = machine.ById(0);
  if (first == nullptr || !machine.has_run.load() || CallsSeen()) {
    dead = 0;
    return;
  }
  if (!Dead(*first)) {
    dead = 0;
    return;
  }
  if (++dead < 3) return;
  StopGuest("it halted for good before its first hypercall; its kernel's call stubs are in no form known here");
}

}  // namespace

void ForgetGuard() { stopped.store(false); }

void StopGuest(const char* why) {
  if (stopped.exchange(true)) return;
  Log(Level::kError, "mode any-kvm: the guest is stopped: %s (CONFIG_KVM_XEN is needed)", why);
  machine.power.store(PowerAction::kCrash);
  if (Vcpu* first = machine.ById(0)) Kick(*first);
}

void StartGuard() {
  const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd < 0) return;
  const itimerspec every_second{{1, 0}, {1, 0}};
  timerfd_settime(fd, 0, &every_second, nullptr);
  Watch(fd, [fd] {
    uint64_t count;
    if (read(fd, &count, sizeof count) == sizeof count) Look();
  });
}

}  // namespace xenshim::any
