#pragma once
#include "core/kvm_abi.h"
#include "plugin/machine.h"

namespace xenshim {

// KVM_SET_CPUID2 with KVM's own leaves replaced by Xen's. Returns as the ioctl would.
int SetCpuid(Vcpu& vcpu, const CpuidTable* wanted);

}  // namespace xenshim
