// Work on a vCPU's descriptor while its thread is in the guest, and power actions.
#include <sys/ioctl.h>
#include <time.h>

#include <cerrno>
#include <thread>

#include "harness.h"
#include "kernel.h"
#include "plugin/machine.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;

namespace {

void Sleep() {
  const timespec while_ago{0, 1'000'000};
  nanosleep(&while_ago, nullptr);
}

void AwaitInside(const KernelVcpu& cpu) {
  for (int i = 0; !cpu.inside; i++) {
    CHECK(i < 20'000);
    Sleep();
  }
}

void Hypercall(kvm_run& run) {
  run.exit_reason = KVM_EXIT_XEN;
  run.xen.type = KVM_EXIT_XEN_HCALL;
  run.xen.u.hcall.input = 17;
  run.xen.u.hcall.longmode = 1;
  run.xen.u.hcall.params[0] = 42;
}

}  // namespace

CASE(work_outside) {
  Qemu qemu;
  xenshim::Vcpu& vcpu = *xenshim::machine.ById(0);
  std::thread::id where{};
  xenshim::WithVcpu(vcpu, [&] { where = std::this_thread::get_id(); });
  CHECK(where == std::this_thread::get_id());
  CHECK(qemu.Go());
  where = {};
  xenshim::WithVcpu(vcpu, [&] { where = std::this_thread::get_id(); });
  CHECK(where == std::this_thread::get_id());
  EQUAL(vcpu.run->immediate_exit, 0);
}

CASE(work_inside) {
  Qemu qemu;
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.blocks = true;
  unsigned interrupted = 0;
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    // QEMU's loop: KVM_RUN ends with EINTR for work of ours as for QEMU's own.
    while (!stop) {
      CHECK(ioctl(qemu.vcpus[0], KVM_RUN, 0UL) == -1);
      EQUAL(errno, EINTR);
      cpu.run->immediate_exit = 0;
      interrupted++;
    }
  });
  for (int i = 0; i < 50; i++) {
    AwaitInside(cpu);
    std::thread::id where{};
    bool outside = false;
    xenshim::WithVcpu(*xenshim::machine.ById(0), [&] {
      where = std::this_thread::get_id();
      outside = !cpu.inside;
    });
    CHECK(outside && (where == thread.get_id() || where == std::this_thread::get_id()));
  }
  // Through the shim's request as well: the service thread waits for the vCPU's.
  EQUAL(Ask(xenshim::kSetUpcallVector, {0, 0xf3}).result, 0);
  EQUAL(cpu.attributes.back().type, KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR);
  EQUAL(cpu.attributes.back().u.vector, 0xf3);
  stop = true;
  xenshim::Kick(*xenshim::machine.ById(0));
  thread.join();
  CHECK(interrupted >= 2);
}

CASE(work_is_the_threads) {
  Qemu qemu;
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.blocks = true;
  std::thread thread([&] { ioctl(qemu.vcpus[0], KVM_RUN, 0UL); });
  AwaitInside(cpu);
  std::thread::id where{};
  const auto wanted = thread.get_id();
  xenshim::WithVcpu(*xenshim::machine.ById(0), [&] { where = std::this_thread::get_id(); });
  CHECK(where == wanted);
  thread.join();
}

CASE(interrupted) {
  Qemu qemu;
  errno = 0;
  EQUAL(ioctl(qemu.vcpus[0], KVM_RUN, 0UL), -1);
  EQUAL(errno, EINTR);
  kernel.refuse = KVM_RUN;
  kernel.refusal = EFAULT;
  EQUAL(ioctl(qemu.vcpus[0], KVM_RUN, 0UL), -1);
  EQUAL(errno, EFAULT);
}

CASE(other_exits) {
  Qemu qemu;
  // Not ours: QEMU gets it as it is.
  for (const uint32_t reason : {KVM_EXIT_HLT, KVM_EXIT_SHUTDOWN, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_HYPERV}) {
    kernel.vcpus[qemu.vcpus[0]].exits.push_back([=](kvm_run& run) { run.exit_reason = reason; });
    CHECK(!qemu.Go());
    EQUAL(qemu.last_exit, reason);
  }
}

CASE(power) {
  for (const auto& [action, type] : {std::pair{xenshim::kPoweroff, KVM_SYSTEM_EVENT_SHUTDOWN},
                                     {xenshim::kCrash, KVM_SYSTEM_EVENT_CRASH}}) {
    static Qemu qemu(2);
    KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
    cpu.blocks = true;
    bool ended = false;
    std::thread thread([&] {
      while (qemu.Go(0)) {
      }
      ended = true;
    });
    AwaitInside(cpu);
    Tell(xenshim::kPower, {action});
    thread.join();
    CHECK(ended);
    EQUAL(qemu.last_exit, KVM_EXIT_SYSTEM_EVENT);
    EQUAL(cpu.run->system_event.type, type);
    EQUAL(cpu.run->system_event.ndata, 0);
    // Once only.
    cpu.blocks = false;
    CHECK(qemu.Go(0));
  }
}

CASE(power_reset) {
  Qemu qemu(2);
  Ask(xenshim::kGetTime, {});
  Tell(xenshim::kPower, {xenshim::kReset});
  Ask(xenshim::kGetTime, {});  // in order: the action has been taken in
  // Only the first vCPU carries it out.
  CHECK(qemu.Go(1));
  CHECK(!qemu.Go(0));
  EQUAL(qemu.last_exit, KVM_EXIT_SHUTDOWN);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].entries.load(), 0);
}

CASE(power_hold) {
  Qemu qemu(2);
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  KernelVcpu& other = kernel.vcpus[qemu.vcpus[1]];
  other.blocks = true;
  CHECK(qemu.Go(0));
  std::thread thread([&] { qemu.Go(1); });
  AwaitInside(other);
  Tell(xenshim::kPower, {xenshim::kHold});
  // A vCPU in the guest leaves it.
  thread.join();
  Ask(xenshim::kGetTime, {});
  const unsigned entries = cpu.entries;
  for (int i = 0; i < 3; i++) {
    cpu.run->immediate_exit = 1;
    CHECK(qemu.Go(0));
  }
  EQUAL(cpu.entries.load(), entries);
  qemu.SetSregs(0);
  cpu.run->immediate_exit = 1;
  CHECK(qemu.Go(0));
  shared->slots[0].state = xenshim::kDone;
  CHECK(qemu.Go(0));
  EQUAL(cpu.entries.load(), entries + 1);
}

CASE(power_while_waiting) {
  Qemu qemu;
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.exits.push_back(Hypercall);
  // SCHEDOP_shutdown is such a call: its answer never comes.
  std::thread thread([&] {
    while (qemu.Go(0)) {
    }
  });
  for (int i = 0; shared->slots[0].state != xenshim::kRequest; i++) {
    CHECK(i < 20'000);
    Sleep();
  }
  Tell(xenshim::kPower, {xenshim::kPoweroff});
  thread.join();
  EQUAL(qemu.last_exit, KVM_EXIT_SYSTEM_EVENT);
  EQUAL(cpu.entries.load(), 1);
}

CASE(hypercall_interrupted) {
  Qemu qemu;
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.exits.push_back([](kvm_run& run) {
    Hypercall(run);
    run.immediate_exit = 1;
  });
  uint64_t result = 0;
  cpu.completed = [&](kvm_run& run) { result = run.xen.u.hcall.result; };
  // QEMU gets its thread although there is no answer yet, and may come back as often as it likes.
  CHECK(qemu.Go());
  EQUAL(shared->slots[0].state.load(), xenshim::kRequest);
  EQUAL(shared->slots[0].nr, 17);
  EQUAL(shared->slots[0].args[0], 42);
  cpu.run->immediate_exit = 1;
  CHECK(qemu.Go());
  EQUAL(cpu.entries.load(), 1);
  shared->slots[0].result = -38;
  shared->slots[0].state = xenshim::kDone;
  CHECK(qemu.Go());
  EQUAL(result, static_cast<uint64_t>(-38));
  EQUAL(shared->slots[0].state.load(), xenshim::kIdle);
}
