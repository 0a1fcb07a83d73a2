// Runstates (xen/vcpu.h) where nobody counts them: a vCPU has been running all the time.
#pragma once
#include <cstdint>

#include "core/protocol.h"

namespace xenshim::any {

// Writes the area at `gpa` once; kNone: nowhere. 0 or a negative errno.
int WriteRunstate(uint64_t gpa, bool long_mode);
// State, time of entry, and time spent in the four states, ns.
void GetRunstate(uint64_t (&out)[kArgs]);

}  // namespace xenshim::any
