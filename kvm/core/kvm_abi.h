// linux/kvm.h, with what older distributions' copies of it lack. Values are the kernel's ABI and never change.
#pragma once
#include <linux/kvm.h>
#include <sys/ioctl.h>

#ifndef KVM_XEN_HVM_CONFIG_EVTCHN_SEND
#define KVM_XEN_HVM_CONFIG_EVTCHN_SEND (1 << 5)
#endif
#ifndef KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG
#define KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG 0x5
#endif
#ifndef KVM_XEN_INVALID_GFN
#define KVM_XEN_INVALID_GFN ((__u64)-1)
#endif
#ifndef KVM_XEN_INVALID_GPA
#define KVM_XEN_INVALID_GPA ((__u64)-1)
#endif

namespace xenshim {

// KVM_SET_USER_MEMORY_REGION2 (Linux 6.8): the first fields are those of the older call.
struct MemoryRegion2 {
  __u32 slot;
  __u32 flags;
  __u64 guest_phys_addr;
  __u64 memory_size;
  __u64 userspace_addr;
  __u64 guest_memfd_offset;
  __u32 guest_memfd;
  __u32 pad1;
  __u64 pad2[14];
};
// Some structures end in a flexible array, which some versions of the header declare in a way that C++ lays out
// differently from C: the size (part of the request number) and the place of the entries are wrong there.
struct CpuidTable {
  __u32 nent;
  __u32 padding;
  kvm_cpuid_entry2* entries() { return reinterpret_cast<kvm_cpuid_entry2*>(this + 1); }
  const kvm_cpuid_entry2* entries() const { return reinterpret_cast<const kvm_cpuid_entry2*>(this + 1); }
};
struct IrqRoutingTable {
  __u32 nr;
  __u32 flags;
  kvm_irq_routing_entry* entries() { return reinterpret_cast<kvm_irq_routing_entry*>(this + 1); }
  const kvm_irq_routing_entry* entries() const { return reinterpret_cast<const kvm_irq_routing_entry*>(this + 1); }
};
struct OneMsr {
  __u32 nmsrs;
  __u32 padding;
  kvm_msr_entry entry;
};
static_assert(sizeof(OneMsr) == 24);
static_assert(sizeof(CpuidTable) == 8 && sizeof(kvm_cpuid_entry2) == 40);
static_assert(sizeof(IrqRoutingTable) == 8 && sizeof(kvm_irq_routing_entry) == 48);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, CpuidTable);
constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, __u64);  // the structure without its entries
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, __u64);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, IrqRoutingTable);

constexpr unsigned long kSetUserMemoryRegion2 = _IOW(KVMIO, 0x49, MemoryRegion2);
constexpr unsigned long kSetSregs2 = _IOW(KVMIO, 0xcd, struct kvm_sregs2);

}  // namespace xenshim
