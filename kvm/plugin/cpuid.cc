// The hypervisor leaves (xen/arch-x86/cpuid.h). KVM's must go: Linux looks for them too and prefers the highest base.
#include "plugin/cpuid.h"

#include <cstdlib>
#include <cstring>

#include "plugin/any/any.h"
#include "plugin/attributes.h"
#include "plugin/log.h"

namespace xenshim {
namespace {

constexpr uint32_t kFirstBase = 0x40000000;
constexpr uint32_t kViridianOffset = 0x100;

bool IsHypervisorLeaf(uint32_t function) { return function >= 0x40000000 && function < 0x40010000; }

bool HasSignature(const kvm_cpuid_entry2& entry, const char* signature) {
  uint32_t text[3] = {entry.ebx, entry.ecx, entry.edx};
  return std::memcmp(text, signature, 12) == 0;
}

}  // namespace

int SetCpuid(Vcpu& vcpu, const CpuidTable* wanted) {
  // Hyper-V enlightenments, where the operator asked for them, keep the first base, as under Xen's own viridian.
  bool viridian = false;
  for (uint32_t i = 0; i < wanted->nent; i++)
    if (wanted->entries()[i].function == kFirstBase && HasSignature(wanted->entries()[i], "Microsoft Hv")) viridian = true;
  const uint32_t base = viridian ? kFirstBase + kViridianOffset : kFirstBase;
  const uint32_t msr = viridian ? 0x40000200 : 0x40000000;

  constexpr size_t kExtra = 16;
  auto* cpuid = static_cast<CpuidTable*>(
      std::calloc(1, sizeof(CpuidTable) + (wanted->nent + kExtra) * sizeof(kvm_cpuid_entry2)));
  if (cpuid == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  uint32_t n = 0;
  for (uint32_t i = 0; i < wanted->nent; i++) {
    const auto& entry = wanted->entries()[i];
    if (IsHypervisorLeaf(entry.function) && (!viridian || entry.function >= base)) continue;
    cpuid->entries()[n++] = entry;
  }
  const auto add = [&](uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx) {
    auto& entry = cpuid->entries()[n++];
    entry.function = base + leaf;
    entry.index = index;
    entry.flags = leaf == 3 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    entry.eax = eax;
    entry.ebx = ebx;
    entry.ecx = ecx;
    entry.edx = edx;
  };
  constexpr uint32_t kVcpuIdPresent = 1u << 3, kDomidPresent = 1u << 4, kUpcallVector = 1u << 6;
  uint32_t features = kVcpuIdPresent | kDomidPresent;
  if ((machine.capabilities & KVM_XEN_HVM_CONFIG_EVTCHN_SEND) != 0) features |= kUpcallVector;
  constexpr uint32_t kDomid = 1;
  add(0, 0, base + 5, 0x566e6558, 0x65584d4d, 0x4d4d566e);  // "XenVMMXenVMM"
  add(1, 0, machine.xen_version, 0, 0, 0);
  add(2, 0, 1, msr, 0, 0);
  // Time leaf: the kernel fills in the TSC's scale and frequency.
  for (uint32_t index = 0; index < 3; index++) add(3, index, 0, 0, 0, 0);
  add(4, 0, features, vcpu.id, kDomid, 0);
  add(5, 0, 0, 0, 0, 0);
  cpuid->nent = n;

  // The VM was made with the other MSR, before anybody could know of Hyper-V.
  if (viridian && vcpu.id == 0 && (machine.any ? any::SetCallMsr(msr) : EnableXen(msr)) != 0)
    Log(Level::kError, "the MSR for hypercalls: %m");
  const int rc = RealIoctl(vcpu.fd, kSetCpuid2, cpuid);
  const int error = errno;
  std::free(cpuid);
  errno = error;
  return rc;
}

}  // namespace xenshim
