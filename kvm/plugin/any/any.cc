#include "plugin/any/any.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "plugin/any/calls.h"
#include "plugin/any/clock.h"
#include "plugin/any/events.h"
#include "plugin/any/guard.h"
#include "plugin/any/msr_filter.h"
#include "plugin/any/patch.h"
#include "plugin/any/runstate.h"
#include "plugin/any/timers.h"
#include "plugin/any/watcher.h"
#include "plugin/log.h"
#include "plugin/ram.h"

namespace xenshim::any {
namespace {

constexpr uint32_t kEfer = 0xc0000080;

std::mutex mutex;
uint32_t call_msr = 0x40000000;
auto& qemus = *new KeptFilter;
bool wide = true;
uint64_t shared_gfn = kNone;

int ApplyFilter(KeptFilter& filter) {
  const auto merged = filter.With({{call_msr, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE}, {kEfer, KVM_MSR_FILTER_READ}});
  if (!merged) {
    std::fprintf(stderr, "xenshim: QEMU filters so many MSRs that none is left for the guest's hypercalls\n");
    std::exit(1);
  }
  auto copy = *merged;
  return RealIoctl(machine.vm_fd, KVM_X86_SET_MSR_FILTER, &copy);
}

int ShowSharedInfo() {
  const int rc = PlaceSharedInfo(shared_gfn);
  if (rc != 0 || shared_gfn == kNone) return rc;
  if (const GuestPage page = MapGuestPage(shared_gfn)) WriteWallClock(page.get(), wide);
  return 0;
}

int SetVcpuInfo(Vcpu& vcpu, uint64_t gpa) {
  // Time first: the guest takes a vcpu_info without one for a clock that stands.
  const int rc = KeepTime(vcpu, gpa);
  return rc != 0 ? rc : PlaceVcpuInfo(vcpu, gpa);
}

}  // namespace

const char* Missing(int kvm_fd) {
  const auto has = [kvm_fd](int capability) {
    return RealIoctl(kvm_fd, KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability)) > 0;
  };
  if (!has(KVM_CAP_X86_USER_SPACE_MSR) || !has(KVM_CAP_X86_MSR_FILTER)) return "MSR filters (Linux 5.10)";
  if (!has(KVM_CAP_SIGNAL_MSI)) return "KVM_SIGNAL_MSI";
  if (!has(KVM_CAP_ADJUST_CLOCK)) return "KVM_GET_CLOCK";
  return nullptr;
}

void Start() {
  kvm_enable_cap capability{};
  capability.cap = KVM_CAP_X86_USER_SPACE_MSR;
  if (EnableCapability(&capability) != 0 || ApplyFilter(qemus) != 0) {
    std::fprintf(stderr, "xenshim: this kernel's KVM does not hand over MSRs: %m\n");
    std::exit(1);
  }
  StartWatcher();
  StartGuard();
}

int SetCallMsr(uint32_t msr) {
  std::lock_guard lock(mutex);
  call_msr = msr;
  return ApplyFilter(qemus);
}

int EnableCapability(kvm_enable_cap* capability) {
  kvm_enable_cap copy = *capability;
  if (copy.cap == KVM_CAP_X86_USER_SPACE_MSR) copy.args[0] |= KVM_MSR_EXIT_REASON_FILTER;
  return RealIoctl(machine.vm_fd, KVM_ENABLE_CAP, &copy);
}

int SetMsrFilter(const kvm_msr_filter* filter) {
  std::lock_guard lock(mutex);
  KeptFilter kept(*filter);
  const int rc = ApplyFilter(kept);
  if (rc == 0) qemus = std::move(kept);
  return rc;
}

IoVerdict HandleCallPort(Vcpu& vcpu) { return HandleCall(vcpu); }

IoVerdict HandleMsrAccess(Vcpu& vcpu) {
  auto& msr = vcpu.run->msr;
  const bool write = vcpu.run->exit_reason == KVM_EXIT_X86_WRMSR;
  if (msr.index == kEfer && !write) {
    kvm_sregs sregs{};
    RealIoctl(vcpu.fd, KVM_GET_SREGS, &sregs);
    msr.data = sregs.efer;
    msr.error = 0;
    LookForStubs(vcpu, sregs);
    KeepTimeAgain(vcpu);
    return IoVerdict::kOurs;
  }
  if (msr.index != call_msr) return IoVerdict::kQemus;
  msr.error = 0;
  if (!write) {
    msr.data = 0;
    return IoVerdict::kOurs;
  }
  // The low bits number the page, of which there is one (CPUID leaf 2).
  const bool given = (msr.data & 0xfff) == 0 && GiveHypercallPage(msr.data >> 12);
  static std::atomic<unsigned> told{0};
  if (told++ >= 16) {
    msr.error = given ? 0 : 1;
  } else if (given) {
    Log(Level::kInfo, "the guest's hypercall page is at %#" PRIx64, static_cast<uint64_t>(msr.data));
  } else {
    msr.error = 1;
    Log(Level::kWarn, "the guest wants a hypercall page at %#" PRIx64 ", where it has no memory: general protection fault",
        static_cast<uint64_t>(msr.data));
  }
  return IoVerdict::kOurs;
}

bool HandleRequest(const Message& request, Vcpu* vcpu, int fd, Message& reply, int64_t& result) {
  const uint64_t* arg = request.arg;
  switch (request.op) {
    case kSetLongMode:
      wide = arg[0] != 0;
      SetEventWidth(wide);
      result = 0;
      return true;
    case kSetSharedInfo:
      shared_gfn = arg[0];
      if (shared_gfn == kNone) ExpectOtherStubs();
      result = ShowSharedInfo();
      return true;
    case kSetCallbackVector:
      // The vector of all vCPUs is not acknowledged by the guest, so that no message can stand for it.
      result = arg[0] == 0 ? 0 : -EOPNOTSUPP;
      if (result != 0) StopGuest("it wants events by one vector for all vCPUs, as Linux before 6.0 does");
      return true;
    case kSetVcpuInfo: result = SetVcpuInfo(*vcpu, arg[1]); return true;
    // KVM keeps one time a vCPU.
    case kSetVcpuTimeInfo: result = arg[1] == kNone ? 0 : -EOPNOTSUPP; return true;
    case kSetRunstateArea: result = WriteRunstate(arg[1], wide); return true;
    case kSetRunstateUpdate: result = 0; return true;
    case kGetRunstate: GetRunstate(reply.arg); result = 0; return true;
    case kSetUpcallVector: result = SetVector(*vcpu, arg[1]); return true;
    case kSetTimer: result = SetTimerPort(*vcpu, arg[1], arg[2]); return true;
    case kRouteSend: result = SetSendRoute(arg[0], arg[1], arg[2], arg[3], fd); return true;
    case kBindIrqfd: result = BindEventfd(arg[0], arg[1], arg[2], fd); return true;
    case kMoveIrqfd: result = MoveEventfd(arg[0], arg[1]); return true;
    case kUnbindIrqfd: result = UnbindEventfd(arg[0]); return true;
    // Polls come to the shim in any case.
    case kSetKernelPoll: result = 0; return true;
    case kRaise: result = Deliver(static_cast<uint32_t>(arg[0]), static_cast<uint32_t>(arg[1])); return true;
    default: return false;
  }
}

void Forget() {
  ForgetTimers();
  ForgetEvents();
  ForgetCalls();
  ForgetStubs();
  ForgetGuard();
  shared_gfn = kNone;
  wide = true;
  for (auto& vcpu : machine.vcpus) KeepTime(*vcpu, kNone);
}

}  // namespace xenshim::any
