// Who asked for a reset of the machine, told from what was seen before it: a machine that is reset for no reason that can
// be found is a fault somewhere, and the log is the only witness.
#pragma once
#include <cstdint>

namespace xenshim {

struct Vcpu;

// The guest writes to a port; those that reset a PC are remembered.
void NotePortWrite(uint16_t port, unsigned size, uint32_t value);
// The shim has vCPU 0 reset the machine: the guest's shutdown, or what the operator wants to follow it.
void NoteShimReset();
// KVM_EXIT_SHUTDOWN of the guest itself. Logs where it happened. On the vCPU's thread, outside KVM_RUN.
void NoteTripleFault(Vcpu& vcpu);
// The machine is being reset. Logs a warning when nothing of the above preceded it.
void TellReset();

}  // namespace xenshim
