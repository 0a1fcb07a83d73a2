// The instructions by which a guest's kernel calls Xen, as they lie in its memory: recognising them, and what is put in
// their place where KVM does not hand them over. Pure functions on bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace xenshim::any {

// A port no PC has a device at. The instruction `out imm8, al` is as short as the call it stands for.
constexpr uint8_t kCallPort = 0xe3;

// Byte offsets of the instructions in a kernel's pair of call stubs: vmmcall for AMD, vmcall for Intel.
struct StubPair {
  size_t amd, intel;
  bool operator==(const StubPair&) const = default;
};

// Whether a pair of stubs begins at `at`: a function that is vmmcall and a return and nothing else, 16 or 32 bytes on the
// same with vmcall, the same return, and only no-ops between. Linux has had it since December 2024 (XSA-466), in
// arch/x86/xen/xen-head.S: kernels from then on do not ask for a hypercall page.
std::optional<StubPair> StubsAt(std::span<const uint8_t> text, size_t at);

// The first pair that begins at a multiple of 16 from `from` on.
std::optional<StubPair> FindStubs(std::span<const uint8_t> text, size_t from = 0);

// Whether the instruction at `at` still is the one StubsAt saw, or the one put in its place.
enum class Instruction { kOriginal, kReplaced, kOther };
Instruction InstructionAt(std::span<const uint8_t> text, size_t at);

// Replaces the three bytes at `at`, a multiple of 4, at once; false if they are not a call to Xen.
bool Replace(std::span<uint8_t> text, size_t at);

// The hypercall page (xen/arch-x86/cpuid.h, leaf 2): 128 stubs of 32 bytes, entered with the arguments in registers.
void FillHypercallPage(std::span<uint8_t, 4096> page);

}  // namespace xenshim::any
