#include "plugin/irqfd.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "plugin/machine.h"

namespace xenshim {
namespace {

struct Binding {
  uint32_t gsi, port, vcpu;
  int fd;
};

std::mutex mutex;
int route_count = 4096;
std::vector<kvm_irq_routing_entry> qemus;
std::map<uint64_t, Binding> bindings;  // by the shim's key

int Apply() {
  const size_t count = qemus.size() + bindings.size();
  auto* routing = static_cast<IrqRoutingTable*>(
      std::calloc(1, sizeof(IrqRoutingTable) + count * sizeof(kvm_irq_routing_entry)));
  if (routing == nullptr) return -ENOMEM;
  routing->nr = static_cast<uint32_t>(count);
  size_t n = 0;
  for (const auto& entry : qemus) routing->entries()[n++] = entry;
  for (const auto& [key, binding] : bindings) {
    auto& entry = routing->entries()[n++];
    entry.gsi = binding.gsi;
    entry.type = KVM_IRQ_ROUTING_XEN_EVTCHN;
    entry.u.xen_evtchn.port = binding.port;
    entry.u.xen_evtchn.vcpu = binding.vcpu;
    entry.u.xen_evtchn.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL;
  }
  const int rc = RealIoctl(machine.vm_fd, kSetGsiRouting, routing) != 0 ? -errno : 0;
  std::free(routing);
  return rc;
}

int Assign(const Binding& binding, uint32_t flags) {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(binding.fd);
  irqfd.gsi = binding.gsi;
  irqfd.flags = flags;
  return RealIoctl(machine.vm_fd, KVM_IRQFD, &irqfd) != 0 ? -errno : 0;
}

uint32_t FreeGsi() {
  std::set<uint32_t> taken;
  for (const auto& [key, binding] : bindings) taken.insert(binding.gsi);
  for (int i = 1; i <= kOwnRoutes; i++) {
    const auto gsi = static_cast<uint32_t>(route_count - i);
    if (!taken.contains(gsi)) return gsi;
  }
  return 0;
}

int UnbindLocked(std::map<uint64_t, Binding>::iterator it) {
  Assign(it->second, KVM_IRQFD_FLAG_DEASSIGN);
  close(it->second.fd);
  bindings.erase(it);
  return Apply();
}

}  // namespace

void SetRouteCount(int all) { route_count = all; }

int SetQemuRouting(const IrqRoutingTable* routing) {
  std::lock_guard lock(mutex);
  std::vector<kvm_irq_routing_entry> before(routing->entries(), routing->entries() + routing->nr);
  qemus.swap(before);
  const int rc = Apply();
  if (rc == 0) return 0;
  qemus.swap(before);
  errno = -rc;
  return -1;
}

int BindIrqfd(uint64_t key, uint64_t port, uint64_t vcpu, int fd) {
  std::lock_guard lock(mutex);
  Vcpu* to = machine.ById(vcpu);
  if (to == nullptr) return -ENOENT;
  if (bindings.contains(key)) return -EEXIST;
  const uint32_t gsi = FreeGsi();
  if (gsi == 0) return -ENOSPC;
  const int kept = dup(fd);  // deassigning needs the descriptor again
  if (kept < 0) return -errno;
  const auto it = bindings.emplace(key, Binding{gsi, static_cast<uint32_t>(port), to->kvm_id, kept}).first;
  int rc = Apply();
  if (rc == 0) rc = Assign(it->second, 0);
  if (rc != 0) UnbindLocked(it);
  return rc;
}

int MoveIrqfd(uint64_t key, uint64_t vcpu) {
  std::lock_guard lock(mutex);
  Vcpu* to = machine.ById(vcpu);
  const auto it = bindings.find(key);
  if (to == nullptr || it == bindings.end()) return -ENOENT;
  const uint32_t before = std::exchange(it->second.vcpu, to->kvm_id);
  const int rc = Apply();
  if (rc != 0) it->second.vcpu = before;
  return rc;
}

int UnbindIrqfd(uint64_t key) {
  std::lock_guard lock(mutex);
  const auto it = bindings.find(key);
  return it == bindings.end() ? 0 : UnbindLocked(it);
}

void UnbindAllIrqfds() {
  std::lock_guard lock(mutex);
  while (!bindings.empty()) UnbindLocked(bindings.begin());
}

}  // namespace xenshim
