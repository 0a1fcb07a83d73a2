// KVM without its Xen interfaces: what the kernel would do with them is done here, in QEMU's process. The shim notices
// nothing but the price.
#pragma once
#include <cstdint>

#include "core/kvm_abi.h"
#include "core/protocol.h"
#include "plugin/machine.h"
#include "plugin/pci.h"

namespace xenshim::any {

// What this KVM lacks for it, as the end of a sentence; nothing if it has all.
const char* Missing(int kvm_fd);
// Takes the VM over: registers that are handed over, the thread for events. `msr` is the hypercall page's.
void Start();
// The MSR by which a guest asks for its hypercall page. Returns as the ioctl would.
int SetCallMsr(uint32_t msr);
// QEMU's own requests about MSRs, done together with ours. Return as the ioctls would.
int EnableCapability(kvm_enable_cap* capability);
int SetMsrFilter(const kvm_msr_filter* filter);

// Exits of the guest that are ours.
IoVerdict HandleCallPort(Vcpu& vcpu);
IoVerdict HandleMsrAccess(Vcpu& vcpu);

// An attribute that KVM's Xen interfaces would hold; true if the request was one, with its answer in `result`.
bool HandleRequest(const Message& request, Vcpu* vcpu, int fd, Message& reply, int64_t& result);
// The machine was reset.
void Forget();

}  // namespace xenshim::any
