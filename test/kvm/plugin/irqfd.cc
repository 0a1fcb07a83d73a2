// Interrupt routing: QEMU's table with the event channels' entries beside it.
#include <cerrno>
#include <cstring>
#include <set>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "harness.h"
#include "kernel.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;
using xenshim::kBindIrqfd, xenshim::kMoveIrqfd, xenshim::kUnbindIrqfd, xenshim::kSetGsiRouting;

namespace {

using Entry = kvm_irq_routing_entry;

std::vector<Entry> Qemus(uint32_t count) {
  std::vector<Entry> entries(count);
  for (uint32_t i = 0; i < count; i++) {
    entries[i].gsi = i;
    entries[i].type = i % 3 == 0 ? KVM_IRQ_ROUTING_MSI : KVM_IRQ_ROUTING_IRQCHIP;
    entries[i].flags = i % 5;
    entries[i].u.msi.address_lo = 0xfee00000 + i;
    entries[i].u.msi.data = 0x4000 + i;
  }
  return entries;
}

int Set(const Qemu& qemu, const std::vector<Entry>& entries) {
  std::vector<uint8_t> bytes(sizeof(xenshim::IrqRoutingTable) + entries.size() * sizeof(Entry));
  auto* table = reinterpret_cast<xenshim::IrqRoutingTable*>(bytes.data());
  table->nr = static_cast<uint32_t>(entries.size());
  std::memcpy(table->entries(), entries.data(), entries.size() * sizeof(Entry));
  return ioctl(qemu.vm, kSetGsiRouting, table);
}

// The kernel's table is QEMU's, verbatim, and then ours; returns ours by port.
std::map<uint32_t, Entry> Ours(const std::vector<Entry>& qemus) {
  CHECK(kernel.routing.size() >= qemus.size());
  CHECK(std::memcmp(kernel.routing.data(), qemus.data(), qemus.size() * sizeof(Entry)) == 0);
  std::map<uint32_t, Entry> ours;
  std::set<uint32_t> gsis;
  for (size_t i = qemus.size(); i < kernel.routing.size(); i++) {
    const Entry& entry = kernel.routing[i];
    EQUAL(entry.type, KVM_IRQ_ROUTING_XEN_EVTCHN);
    EQUAL(entry.u.xen_evtchn.priority, ~0u);
    CHECK(entry.gsi >= 4096 - 1024 && entry.gsi < 4096);
    CHECK(gsis.insert(entry.gsi).second);
    ours[entry.u.xen_evtchn.port] = entry;
  }
  return ours;
}

// As QEMU asks for it before it counts GSIs.
void Count(const Qemu& qemu) {
  CHECK(ioctl(qemu.vm, KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_IRQ_ROUTING)) == 4096 - 1024);
}

}  // namespace

CASE(routes_appended) {
  Qemu qemu(3);
  Count(qemu);
  CHECK(Set(qemu, Qemus(40)) == 0);
  EQUAL(Ours(Qemus(40)).size(), 0);
  const int event = eventfd(0, 0);
  EQUAL(Ask(kBindIrqfd, {77, 5, 2}, event).result, 0);
  EQUAL(Ask(kBindIrqfd, {78, 6, 1}, event).result, 0);
  auto ours = Ours(Qemus(40));
  EQUAL(ours.size(), 2);
  EQUAL(ours[5].u.xen_evtchn.vcpu, 4);  // KVM's number of vCPU 2
  EQUAL(ours[6].u.xen_evtchn.vcpu, 2);
  EQUAL(kernel.irqfds.size(), 2);
  EQUAL(kernel.irqfds[0].gsi, ours[5].gsi);
  EQUAL(kernel.irqfds[0].flags, 0);
  // QEMU's next table keeps them.
  CHECK(Set(qemu, Qemus(70)) == 0);
  EQUAL(Ours(Qemus(70)).size(), 2);
  EQUAL(Ours(Qemus(70))[5].gsi, ours[5].gsi);
  CHECK(Set(qemu, {}) == 0);
  EQUAL(Ours({}).size(), 2);
}

CASE(routes_moved_and_unbound) {
  Qemu qemu(3);
  Count(qemu);
  CHECK(Set(qemu, Qemus(24)) == 0);
  const int event = eventfd(0, 0);
  EQUAL(Ask(kBindIrqfd, {1, 5, 0}, event).result, 0);
  EQUAL(Ask(kBindIrqfd, {2, 6, 0}, event).result, 0);
  EQUAL(Ask(kBindIrqfd, {2, 7, 0}, event).result, -EEXIST);
  EQUAL(Ask(kBindIrqfd, {3, 7, 9}, event).result, -ENOENT);
  EQUAL(Ask(kBindIrqfd, {3, 7, 0}).result, -EBADF);
  const uint32_t gsi = Ours(Qemus(24))[5].gsi;
  EQUAL(Ask(kMoveIrqfd, {1, 2}).result, 0);
  EQUAL(Ours(Qemus(24))[5].u.xen_evtchn.vcpu, 4);
  EQUAL(Ours(Qemus(24))[5].gsi, gsi);
  EQUAL(Ours(Qemus(24))[6].u.xen_evtchn.vcpu, 0);
  EQUAL(Ask(kMoveIrqfd, {1, 3}).result, -ENOENT);
  EQUAL(Ask(kMoveIrqfd, {9, 0}).result, -ENOENT);
  kernel.irqfds.clear();
  EQUAL(Ask(kUnbindIrqfd, {1}).result, 0);
  EQUAL(kernel.irqfds.size(), 1);
  EQUAL(kernel.irqfds[0].flags, KVM_IRQFD_FLAG_DEASSIGN);
  EQUAL(kernel.irqfds[0].gsi, gsi);
  EQUAL(Ours(Qemus(24)).size(), 1);
  EQUAL(Ask(kUnbindIrqfd, {1}).result, 0);
  // Its number is free again.
  EQUAL(Ask(kBindIrqfd, {4, 8, 0}, event).result, 0);
  EQUAL(Ours(Qemus(24))[8].gsi, gsi);
}

CASE(routes_refused) {
  Qemu qemu(3);
  Count(qemu);
  const auto qemus = Qemus(24);
  CHECK(Set(qemu, qemus) == 0);
  const int event = eventfd(0, 0);
  EQUAL(Ask(kBindIrqfd, {1, 5, 0}, event).result, 0);
  kernel.refusal = ENOMEM;
  kernel.refuse = kSetGsiRouting;
  EQUAL(Ask(kBindIrqfd, {2, 6, 0}, event).result, -ENOMEM);
  EQUAL(Ours(qemus).size(), 1);
  kernel.refuse = KVM_IRQFD;
  EQUAL(Ask(kBindIrqfd, {2, 6, 0}, event).result, -ENOMEM);
  EQUAL(Ours(qemus).size(), 1);
  // A move that fails is not made by a later change either.
  kernel.refuse = kSetGsiRouting;
  EQUAL(Ask(kMoveIrqfd, {1, 2}).result, -ENOMEM);
  EQUAL(Ask(kBindIrqfd, {2, 6, 0}, event).result, 0);
  EQUAL(Ours(qemus)[5].u.xen_evtchn.vcpu, 0);
  // Nor is a table of QEMU's that the kernel refused.
  kernel.refuse = kSetGsiRouting;
  CHECK(Set(qemu, Qemus(30)) == -1);
  EQUAL(errno, ENOMEM);
  EQUAL(Ask(kUnbindIrqfd, {2}).result, 0);
  EQUAL(Ours(qemus).size(), 1);
  // The descriptor kept for a failed binding is closed.
  const int before = dup(event);
  for (int i = 0; i < 20; i++) {
    kernel.refuse = KVM_IRQFD;
    EQUAL(Ask(kBindIrqfd, {2, 6, 0}, event).result, -ENOMEM);
  }
  close(before);
  EQUAL(dup(event), before);
}

CASE(routes_limit) {
  Qemu qemu;
  Count(qemu);
  CHECK(Set(qemu, Qemus(3072)) == 0);
  const int event = eventfd(0, 0);
  for (uint64_t key = 0; key < 1024; key++) {
    if (Ask(kBindIrqfd, {key, key + 1, 0}, event).result != 0) EQUAL(key, ~0u);
  }
  EQUAL(Ours(Qemus(3072)).size(), 1024);
  EQUAL(Ask(kBindIrqfd, {5000, 1, 0}, event).result, -ENOSPC);
  EQUAL(Ask(kUnbindIrqfd, {500}).result, 0);
  EQUAL(Ask(kBindIrqfd, {5000, 9000, 0}, event).result, 0);
  EQUAL(Ours(Qemus(3072)).size(), 1024);
  // A reset of the machine takes back all of them.
  kernel.vcpus[qemu.vcpus[0]].run->immediate_exit = 1;
  CHECK(qemu.Go());
  qemu.SetSregs(0);
  EQUAL(Ours(Qemus(3072)).size(), 0);
}
