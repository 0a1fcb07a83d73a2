// The call stubs of a guest's kernel, found in its memory and made to leave the guest.
#pragma once
#include <cstdint>

#include "plugin/machine.h"

namespace xenshim::any {

// The guest has let go of Xen, as before kexec: the next kernel has stubs of its own.
void ExpectOtherStubs();
// The guest reads EFER, as every x86-64 kernel does on each processor before its C code runs: looks for call stubs around
// the instruction, unless those found before are still in place.
void LookForStubs(Vcpu& vcpu, const kvm_sregs& sregs);
// Whether a replaced instruction lies at this offset in its page.
bool IsStubOffset(uint64_t offset);
// Stubs have been replaced since the last reset.
bool StubsReplaced();
// What has become of them since.
enum class StubState { kNone, kInPlace, kRestored, kGone };
StubState LookAtStubs();
void ForgetStubs();

}  // namespace xenshim::any
