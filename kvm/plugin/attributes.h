// KVM's Xen attributes of the VM and its vCPUs, and the memory of which were set, so that a reset can clear them.
#pragma once
#include <cstdint>

#include "plugin/machine.h"

namespace xenshim {

int EnableXen(uint32_t msr);     // KVM_XEN_HVM_CONFIG with the hypercall page's MSR; 0 or negative errno
int SetXenVcpuId(Vcpu& vcpu);    // before the vCPU first runs
int SetKernelPoll(bool on);      // whether KVM carries out SCHEDOP_poll
int SetLongMode(bool on);
int SetSharedInfo(uint64_t gfn);
int SetCallbackVector(uint64_t vector);
int SetRunstateUpdate(bool on);
int SetVcpuAddress(Vcpu& vcpu, uint16_t type, uint64_t gpa);
int GetRunstate(Vcpu& vcpu, uint64_t (&out)[kArgs]);
int SetUpcallVector(Vcpu& vcpu, uint64_t vector);
int SetTimer(Vcpu& vcpu, uint64_t port, uint64_t expires);
int RouteSend(uint64_t port, uint64_t kind, uint64_t target, uint64_t vcpu, int fd);
int Raise(uint64_t port, uint64_t vcpu);
void ClearAttributes();

}  // namespace xenshim
