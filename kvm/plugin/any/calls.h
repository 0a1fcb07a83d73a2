// Hypercalls that arrive as port writes of the guest's kernel.
#pragma once
#include "plugin/machine.h"
#include "plugin/pci.h"

namespace xenshim::any {

// A write to kCallPort. QEMU's if it is no hypercall: not of ring 0, or not from a call stub.
IoVerdict HandleCall(Vcpu& vcpu);
// The guest has asked for its hypercall page, at frame `gfn`. False if there is no memory.
bool GiveHypercallPage(uint64_t gfn);
// A hypercall has been seen since the last reset.
bool CallsSeen();
void ForgetCalls();

}  // namespace xenshim::any
