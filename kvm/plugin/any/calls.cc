#include "plugin/any/calls.h"

#include <atomic>
#include <cstring>

#include "plugin/any/events.h"
#include "plugin/any/patch.h"
#include "plugin/any/stubs.h"
#include "plugin/any/timers.h"
#include "plugin/log.h"
#include "plugin/ram.h"

namespace xenshim::any {
namespace {

// xen/xen.h, xen/event_channel.h, xen/vcpu.h
constexpr uint32_t kSetTimerOp = 15, kVcpuOp = 24, kEventChannelOp = 32;
constexpr uint32_t kEvtchnopSend = 4, kSetSingleshotTimer = 8, kStopSingleshotTimer = 9;
// Times further off come from an overflow in the guest; Xen's answer is to ring soon.
constexpr uint64_t kFarFuture = uint64_t{1} << 50, kSoon = 100'000'000;

std::atomic<bool> seen{false};
std::atomic<bool> page_given{false};

// KVM reports an `out` before or behind the instruction, depending on how it was carried out.
bool FromStub(uint64_t rip) {
  const auto at = [](uint64_t address) {
    return IsStubOffset(address & 0xfff) || (page_given.load(std::memory_order_relaxed) && address % 32 == 5);
  };
  return at(rip) || at(rip - 2);
}

bool ReadGuest(Vcpu& vcpu, uint64_t address, void* to, uint64_t length) {
  if ((address & 0xfff) + length > 4096) return false;
  kvm_translation translation{};
  translation.linear_address = address;
  if (RealIoctl(vcpu.fd, KVM_TRANSLATE, &translation) != 0 || translation.valid == 0) return false;
  const uint8_t* from = HostAddress(translation.physical_address, length);
  if (from == nullptr) return false;
  std::memcpy(to, from, length);
  return true;
}

// What the kernel would carry out by itself. False: the shim has to look at it.
bool AtOnce(Vcpu& vcpu, const Hypercall& call) {
  const auto command = static_cast<uint32_t>(call.args[0]);
  switch (call.nr) {
    case kEventChannelOp: {
      uint32_t port;
      return command == kEvtchnopSend && ReadGuest(vcpu, call.args[1], &port, sizeof port) && Send(port);
    }
    case kVcpuOp: {
      if (static_cast<uint32_t>(call.args[1]) != vcpu.id) return false;
      if (command == kStopSingleshotTimer) return ArmTimer(vcpu, 0);
      uint64_t deadline;
      return command == kSetSingleshotTimer && ReadGuest(vcpu, call.args[2], &deadline, sizeof deadline) &&
             deadline != 0 && static_cast<int64_t>(deadline) > 0 && ArmTimer(vcpu, deadline);
    }
    case kSetTimerOp:
      // A 32-bit caller's time is in two registers.
      return call.long_mode && static_cast<int64_t>(call.args[0]) >= 0 && call.args[0] < kFarFuture &&
             ArmTimer(vcpu, call.args[0]);
    default:
      return false;
  }
}

void Answer(Vcpu& vcpu, int64_t result) {
  kvm_regs regs{};
  if (RealIoctl(vcpu.fd, KVM_GET_REGS, &regs) != 0) return;
  regs.rax = static_cast<uint64_t>(result);
  RealIoctl(vcpu.fd, KVM_SET_REGS, &regs);
}

}  // namespace

IoVerdict HandleCall(Vcpu& vcpu) {
  const auto& io = vcpu.run->io;
  if (io.direction != KVM_EXIT_IO_OUT || io.size != 1 || io.count != 1) return IoVerdict::kQemus;
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (RealIoctl(vcpu.fd, KVM_GET_REGS, &regs) != 0 || RealIoctl(vcpu.fd, KVM_GET_SREGS, &sregs) != 0)
    return IoVerdict::kQemus;
  // A program that may use ports gets no further by it than to this port, which leads nowhere.
  if (sregs.ss.dpl != 0 || !FromStub(regs.rip)) return IoVerdict::kQemus;
  Hypercall call;
  call.cpl = 0;
  call.long_mode = sregs.cs.l != 0 && (sregs.efer & 1 << 10) != 0;
  call.nr = static_cast<uint32_t>(regs.rax);
  if (call.long_mode) {
    const uint64_t args[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
    std::memcpy(call.args, args, sizeof args);
  } else {
    const uint64_t args[6] = {regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp};
    for (int i = 0; i < 6; i++) call.args[i] = args[i] & 0xffffffff;
  }
  if (!seen.exchange(true)) Log(Level::kDebug, "the guest's first hypercall: %u", call.nr);
  if (AtOnce(vcpu, call)) {
    Answer(vcpu, 0);
  } else {
    vcpu.answer = Answer;
    PostHypercall(vcpu, call, sregs);
  }
  return IoVerdict::kOurs;
}

bool GiveHypercallPage(uint64_t gfn) {
  uint8_t* page = HostAddress(gfn << 12, 4096);
  if (page == nullptr) return false;
  FillHypercallPage(std::span<uint8_t, 4096>(page, 4096));
  page_given.store(true);
  return true;
}

bool CallsSeen() { return seen.load(); }

void ForgetCalls() {
  seen.store(false);
  page_given.store(false);
}

}  // namespace xenshim::any
