// What QEMU is told of the kernel's abilities, and how a reset of the machine is seen.
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "harness.h"
#include "kernel.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;

namespace {

int Extension(int fd, int capability) { return ioctl(fd, KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability)); }

unsigned Resets() { return shared->slots[0].kind == xenshim::kSlotReset && shared->slots[0].state == xenshim::kRequest; }

// KVM_RUN with the thread wanted back at once.
void Touch(Qemu& qemu, unsigned vcpu) {
  kernel.vcpus[qemu.vcpus[vcpu]].run->immediate_exit = 1;
  CHECK(qemu.Go(vcpu));
}

}  // namespace

CASE(extensions_reduced) {
  Qemu qemu;
  for (const int fd : {kKvmFd, qemu.vm}) {
    EQUAL(Extension(fd, KVM_CAP_NR_MEMSLOTS), 509 - 128);
    EQUAL(Extension(fd, KVM_CAP_IRQ_ROUTING), 4096 - 1024);
    EQUAL(Extension(fd, KVM_CAP_COALESCED_PIO), 0);
    EQUAL(Extension(fd, KVM_CAP_COALESCED_MMIO), 1);
    EQUAL(Extension(fd, KVM_CAP_SPLIT_IRQCHIP), 0);
  }
}

CASE(extensions_before_vm) {
  // QEMU asks for the number of slots before it makes the VM.
  kernel.capabilities = {{KVM_CAP_NR_MEMSLOTS, 32764}, {KVM_CAP_XEN_HVM, 0xff}};
  OfferShim();
  EQUAL(Extension(kKvmFd, KVM_CAP_NR_MEMSLOTS), 32764 - 128);
  CHECK(ioctl(kKvmFd, KVM_CREATE_VM, 0UL) >= 0);
  EQUAL(Ask(xenshim::kPlacePage, {0xfeffc, 0}).result, 0);
  EQUAL(kernel.slots.begin()->first, 32763);
}

CASE(no_shim) {
  // Without a shim every call goes straight on.
  kernel.capabilities = {{KVM_CAP_NR_MEMSLOTS, 509}, {KVM_CAP_COALESCED_PIO, 1}};
  EQUAL(Extension(kKvmFd, KVM_CAP_NR_MEMSLOTS), 509);
  const int vm = ioctl(kKvmFd, KVM_CREATE_VM, 0UL);
  CHECK(vm >= 0);
  EQUAL(Extension(vm, KVM_CAP_NR_MEMSLOTS), 509);
  EQUAL(Extension(vm, KVM_CAP_COALESCED_PIO), 1);
  EQUAL(kernel.configs.size(), 0);
}

CASE(other_descriptors) {
  Qemu qemu;
  errno = 0;
  EQUAL(ioctl(12345, KVM_RUN, 0UL), -1);
  EQUAL(errno, EBADF);
  EQUAL(ioctl(qemu.vm, _IO(KVMIO, 0xfe), 0UL), -1);
  EQUAL(errno, ENOTTY);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].entries, 0);
}

CASE(vcpu_numbers) {
  Qemu qemu(3);
  for (uint32_t id = 0; id < 3; id++) {
    const auto& attributes = kernel.vcpus[qemu.vcpus[id]].attributes;
    EQUAL(attributes.size(), 1);
    EQUAL(attributes[0].type, KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID);
    EQUAL(attributes[0].u.vcpu_id, id);
  }
  EQUAL(shared->header.created[0].load(), 7);
}

CASE(reset_seen_once) {
  Qemu qemu(2);
  // Power-on: the registers are set before anything has run.
  qemu.SetSregs(0);
  qemu.SetSregs(1);
  Touch(qemu, 0);
  EQUAL(Resets(), 0);
  Touch(qemu, 1);
  // Other registers, or other vCPUs', are no reset.
  qemu.SetSregs(0, 0x10, 0, 0x80050033);
  qemu.SetSregs(0, 0xf000, 0xf0000);
  qemu.SetSregs(0, 0xf000, 0xffff0000, 0x60000011);
  qemu.SetSregs(1);
  Touch(qemu, 0);
  EQUAL(Resets(), 0);
  EQUAL(kernel.attributes.size(), 0);
  qemu.SetSregs(0);
  CHECK(!kernel.attributes.empty());
  Touch(qemu, 0);
  EQUAL(Resets(), 1);
  // The vCPU does not run before the shim has let go.
  const unsigned entries = kernel.vcpus[qemu.vcpus[0]].entries;
  Touch(qemu, 0);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].entries.load(), entries);
  shared->slots[0].state = xenshim::kDone;
  // QEMU sets the registers again before the first vCPU has run, while another already waits for its start.
  Touch(qemu, 1);
  const size_t undone = kernel.attributes.size();
  qemu.SetSregs(0);
  EQUAL(kernel.attributes.size(), undone);
  Touch(qemu, 0);
  EQUAL(Resets(), 0);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].entries.load(), entries + 1);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].sregs, 6);
  // The next reset is seen again, in the newer form too.
  kvm_sregs2 sregs{};
  sregs.cs.selector = 0xf000;
  sregs.cs.base = 0xffff0000;
  CHECK(ioctl(qemu.vcpus[0], xenshim::kSetSregs2, &sregs) == 0);
  Touch(qemu, 0);
  EQUAL(Resets(), 1);
}

namespace {

// The warnings so far that the machine was reset.
unsigned Warnings(const char* text) {
  unsigned found = 0;
  for (const auto& line : Heard(true)) found += line.arg[0] == 40 && std::strstr(line.text, text) != nullptr;
  return found;
}

// The machine is reset, and the shim lets it go on.
void Reset(Qemu& qemu) {
  qemu.SetSregs(0);
  Touch(qemu, 0);
  EQUAL(Resets(), 1);
  shared->slots[0].state = xenshim::kDone;
  Touch(qemu, 0);
}

}  // namespace

CASE(reset_nobody_asked_for) {
  Qemu qemu;
  const char* nobody = "neither the guest nor xenshim asked";
  Touch(qemu, 0);
  Reset(qemu);
  EQUAL(Warnings(nobody), 1);
  // Ways to ask, and beside each what does not.
  for (const auto& [port, resets, other] : {std::array<unsigned, 3>{0xcf9, 0x06, 0x02}, {0x64, 0xfe, 0xd1}, {0x92, 0x03, 0x02}}) {
    qemu.Out(static_cast<uint16_t>(port), 1, resets);
    Reset(qemu);
    EQUAL(Warnings(nobody), 0);
    qemu.Out(static_cast<uint16_t>(port), 1, other);
    Reset(qemu);
    EQUAL(Warnings(nobody), 1);
  }
  Tell(xenshim::kPower, {xenshim::kReset});
  Ask(xenshim::kGetTime, {});
  CHECK(!qemu.Go(0));
  Reset(qemu);
  EQUAL(Warnings(nobody), 0);
}

CASE(triple_fault) {
  Qemu qemu(2);
  Touch(qemu, 0);
  kernel.vcpus[qemu.vcpus[1]].exits.push_back([](kvm_run& run) { run.exit_reason = KVM_EXIT_SHUTDOWN; });
  CHECK(!qemu.Go(1));
  EQUAL(qemu.last_exit, KVM_EXIT_SHUTDOWN);
  EQUAL(Warnings("vCPU 1: triple fault at rip 1234,"), 1);
  // As KVM leaves a vCPU on AMD: where it was cannot be told.
  kernel.vcpus[qemu.vcpus[1]].regs.rip = 0xfff0;
  kernel.vcpus[qemu.vcpus[1]].exits.push_back([](kvm_run& run) { run.exit_reason = KVM_EXIT_SHUTDOWN; });
  CHECK(!qemu.Go(1));
  EQUAL(Warnings("vCPU 1: triple fault, where is not known"), 1);
  Reset(qemu);
  EQUAL(Warnings("neither"), 0);
}
