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
constexpr unsigned long kSetUserMemoryRegion2 = _IOW(KVMIO, 0x49, MemoryRegion2);
constexpr unsigned long kSetSregs2 = _IOW(KVMIO, 0xcd, struct kvm_sregs2);

}  // namespace xenshim
