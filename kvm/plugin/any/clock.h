// The Xen clock, kept by KVM's own: struct pvclock_vcpu_time_info is the same structure on both (asm/pvclock-abi.h), and
// the host may set the register that says where a vCPU's lies.
#pragma once
#include <cstdint>

#include "plugin/machine.h"

namespace xenshim::any {

// ns of the guest's system time.
uint64_t SystemTime();
// The same as the guest computes it from the vcpu_info at `info`. By the vCPU's thread, outside KVM_RUN.
uint64_t TimeOf(Vcpu& vcpu, const uint8_t* info);
// Keeps the time in the vcpu_info at `gpa`, or nowhere (kNone). 0 or a negative errno.
int KeepTime(Vcpu& vcpu, uint64_t gpa);
// KVM forgets where a vCPU's time is kept when the vCPU gets an INIT, as before each start: to be called after it.
void KeepTimeAgain(Vcpu& vcpu);
// Writes the time of day at which the system time was 0 into a shared_info page.
void WriteWallClock(uint8_t* shared_info, bool long_mode);

}  // namespace xenshim::any
