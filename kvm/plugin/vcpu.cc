// A vCPU's run loop: enter the guest, answer the exits that are Xen's, hand every other one to QEMU untouched.
#include <cerrno>
#include <csignal>
#include <ctime>

#include "plugin/any/any.h"
#include "plugin/any/stubs.h"
#include "plugin/log.h"
#include "plugin/machine.h"
#include "plugin/pci.h"
#include "plugin/reset_reason.h"

namespace xenshim {

Machine machine;

Vcpu* Machine::ByFd(int fd) {
  for (auto& vcpu : vcpus)
    if (vcpu->fd == fd) return vcpu.get();
  return nullptr;
}

Vcpu* Machine::ById(uint64_t id) { return id < vcpus.size() ? vcpus[id].get() : nullptr; }

void Kick(Vcpu& vcpu) {
  std::lock_guard lock(vcpu.mutex);
  if (!vcpu.has_thread) return;
  vcpu.run->immediate_exit = 1;
  // QEMU's own kick signal: its handler is installed, and QEMU expects KVM_RUN to end with EINTR at any time.
  pthread_kill(vcpu.thread, SIGUSR1);
}

void WithVcpu(Vcpu& vcpu, std::function<void()> work) {
  std::unique_lock lock(vcpu.mutex);
  if (!vcpu.running) {
    work();
    return;
  }
  bool finished = false;
  vcpu.work.push_back([&] {
    work();
    finished = true;
  });
  while (!finished) {
    vcpu.run->immediate_exit = 1;
    pthread_kill(vcpu.thread, SIGUSR1);
    // The signal can arrive before the thread is inside the ioctl: repeat until the work was picked up.
    vcpu.done.wait_for(lock, std::chrono::milliseconds(10), [&] { return finished; });
  }
}

namespace {

int EnterGuest(Vcpu& vcpu) {
  {
    std::lock_guard lock(vcpu.mutex);
    vcpu.thread = pthread_self();
    vcpu.has_thread = true;
    vcpu.running = true;
  }
  const int rc = RealIoctl(vcpu.fd, KVM_RUN, 0UL);
  const int error = errno;
  {
    std::lock_guard lock(vcpu.mutex);
    vcpu.running = false;
    if (!vcpu.work.empty()) {
      for (auto& work : vcpu.work) work();
      vcpu.work.clear();
      vcpu.done.notify_all();
    }
  }
  errno = error;
  return rc;
}

// Turns the exit into what the kernel would report had the guest pulled the plug, so that QEMU does the rest.
int PowerExit(Vcpu& vcpu, uint32_t action) {
  kvm_run& run = *vcpu.run;
  if (action == PowerAction::kReset) {
    NoteShimReset();
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  }
  run.exit_reason = KVM_EXIT_SYSTEM_EVENT;
  run.system_event.type = action == PowerAction::kCrash ? KVM_SYSTEM_EVENT_CRASH : KVM_SYSTEM_EVENT_SHUTDOWN;
  run.system_event.ndata = 0;
  return 0;
}

int Interrupted() {
  errno = EINTR;
  return -1;
}

}  // namespace

int RunVcpu(Vcpu& vcpu) {
  if (!vcpu.has_thread) {
    std::lock_guard lock(vcpu.mutex);
    vcpu.thread = pthread_self();
    vcpu.has_thread = true;
  }
  for (;;) {
    if (vcpu.id == 0) {
      const uint32_t action = machine.power.exchange(0);
      if (action != 0) return PowerExit(vcpu, action);
    }
    if (vcpu.script) {
      // A survey of many buses takes a while: QEMU gets its thread in between when it asks for it.
      if (vcpu.run->immediate_exit != 0) return Interrupted();
      // QEMU has just done an I/O access of ours; the guest's own exit is still open underneath.
      if (ContinueScript(vcpu)) return 0;
    }
    if (vcpu.reset_pending) {
      vcpu.reset_pending = false;
      PostReset(vcpu);
    }
    if (vcpu.in_slot && !WaitForAnswer(vcpu)) {
      if (vcpu.id == 0 && machine.power.load() != 0) continue;
      return Interrupted();
    }
    if (machine.held.load()) {
      if (vcpu.run->immediate_exit != 0 || machine.closed.load()) return Interrupted();
      // Ended early by QEMU's kick; bounded, because one before the sleep would be missed.
      const timespec limit{0, 50'000'000};
      nanosleep(&limit, nullptr);
      continue;
    }
    // Other vCPUs wait for the first one to start them; entering the kernel to do so is not running.
    if (vcpu.id == 0) machine.has_run.store(true, std::memory_order_relaxed);
    const int rc = EnterGuest(vcpu);
    if (rc < 0) return rc;
    switch (vcpu.run->exit_reason) {
      case KVM_EXIT_XEN:
        if (vcpu.run->xen.type != KVM_EXIT_XEN_HCALL) return rc;
        PostHypercall(vcpu);
        break;
      case KVM_EXIT_X86_RDMSR:
      case KVM_EXIT_X86_WRMSR:
        if (!machine.any || any::HandleMsrAccess(vcpu) == IoVerdict::kQemus) return rc;
        break;
      case KVM_EXIT_IO:
        if (machine.any && vcpu.run->io.port == any::kCallPort && any::HandleCallPort(vcpu) == IoVerdict::kOurs) break;
        switch (HandlePortIo(vcpu)) {
          case IoVerdict::kOurs: break;
          case IoVerdict::kQemus: return rc;
        }
        break;
      case KVM_EXIT_MMIO:
        if (HandleMmio(vcpu) == IoVerdict::kQemus) return rc;
        break;
      case KVM_EXIT_SHUTDOWN:
        NoteTripleFault(vcpu);
        return rc;
      default:
        return rc;
    }
  }
}

}  // namespace xenshim
