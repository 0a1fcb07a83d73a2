// Eventfds that raise event channels: a Xen entry each in the VM's interrupt routing, beside QEMU's own entries.
#pragma once
#include <cstdint>

#include "core/kvm_abi.h"

namespace xenshim {

// Interrupt routes kept for us, the highest GSIs; QEMU is told of that many fewer.
constexpr int kOwnRoutes = 1024;

void SetRouteCount(int all);
// QEMU's KVM_SET_GSI_ROUTING: issued with our entries added. Returns as the ioctl would.
int SetQemuRouting(const IrqRoutingTable* routing);
int BindIrqfd(uint64_t key, uint64_t port, uint64_t vcpu, int fd);
int MoveIrqfd(uint64_t key, uint64_t vcpu);
int UnbindIrqfd(uint64_t key);
void UnbindAllIrqfds();

}  // namespace xenshim
