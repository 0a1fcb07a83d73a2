// The singleshot timer of each vCPU, as KVM_XEN_VCPU_ATTR_TYPE_TIMER runs it.
#pragma once
#include <cstdint>

#include "plugin/machine.h"

namespace xenshim::any {

// The port a vCPU's timer raises; 0 leaves the timer to the shim.
int SetTimerPort(Vcpu& vcpu, uint64_t port, uint64_t expires);
// Arms it for a system time, ns; 0 stops it. False if the timer is the shim's.
bool ArmTimer(Vcpu& vcpu, uint64_t deadline);
void ForgetTimers();

}  // namespace xenshim::any
