// The way in: QEMU's calls of ioctl() pass here. Those that concern KVM are looked at; all others go straight on.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "core/kvm_abi.h"
#include "plugin/any/any.h"
#include "plugin/attributes.h"
#include "plugin/channel.h"
#include "plugin/cpuid.h"
#include "plugin/irqfd.h"
#include "plugin/log.h"
#include "plugin/machine.h"
#include "plugin/pci.h"
#include "plugin/ram.h"
#include "plugin/reset_reason.h"

namespace xenshim {

int RealIoctl(int fd, unsigned long request, void* argument) {
  return static_cast<int>(syscall(SYS_ioctl, fd, request, argument));
}

namespace {

int CreateVm(int fd, unsigned long type) {
  const int vm = RealIoctl(fd, KVM_CREATE_VM, type);
  // Some programs create a throw-away VM to probe; a second real one in a process is not QEMU's way.
  if (vm < 0 || machine.vm_fd >= 0) return vm;
  machine.capabilities = RealIoctl(fd, KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_XEN_HVM));
  if (!ConnectToShim(machine.capabilities)) return vm;
  machine.kvm_fd = fd;
  machine.vm_fd = vm;
  machine.run_size = static_cast<size_t>(RealIoctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0UL));
  machine.vcpus.reserve(kMaxVcpus);
  if (machine.any) {
    if (const char* missing = any::Missing(fd); missing != nullptr) {
      std::fprintf(stderr, "xenshim: this kernel's KVM lacks %s, which mode any-kvm needs\n", missing);
      std::exit(1);
    }
    any::Start();
    return vm;
  }
  if (const int rc = EnableXen(0x40000000); rc != 0) {
    std::fprintf(stderr, "xenshim: this kernel's KVM does not take hypercalls (KVM_XEN_HVM_CONFIG: error %d)\n", -rc);
    std::exit(1);
  }
  return vm;
}

int CreateVcpu(int fd, unsigned long id) {
  const int rc = RealIoctl(fd, KVM_CREATE_VCPU, id);
  if (rc < 0 || machine.vcpus.size() >= kMaxVcpus) return rc;
  auto vcpu = std::make_unique<Vcpu>();
  vcpu->fd = rc;
  vcpu->id = static_cast<uint32_t>(machine.vcpus.size());
  vcpu->kvm_id = static_cast<uint32_t>(id);
  void* run = mmap(nullptr, machine.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, rc, 0);
  if (run == MAP_FAILED) return rc;
  vcpu->run = static_cast<kvm_run*>(run);
  if (!machine.any) SetXenVcpuId(*vcpu);
  machine.shared->header.created[vcpu->id / 32].fetch_or(1u << (vcpu->id % 32));
  machine.vcpus.push_back(std::move(vcpu));
  return rc;
}

// The first vCPU put back to the reset vector, after the guest has run, is a reset of the machine: all vCPUs stand.
void NoteSregs(Vcpu& vcpu, const kvm_segment& cs, uint64_t cr0) {
  const bool at_reset = cs.selector == 0xf000 && cs.base == 0xffff0000 && (cr0 & 1) == 0;
  if (vcpu.id != 0 || !at_reset || !machine.has_run.exchange(false)) return;
  TellReset();
  for (auto& each : machine.vcpus) each->script.reset();
  UndoEverything();
  vcpu.reset_pending = true;
}

int CheckExtension(int fd, unsigned long capability) {
  const int value = RealIoctl(fd, KVM_CHECK_EXTENSION, capability);
  // QEMU asks for the number of slots before it makes the VM.
  if (!(machine.active() || ShimOffered()) || value <= 0) return value;
  switch (capability) {
    case KVM_CAP_COALESCED_PIO:
      return 0;  // writes to 0xcf8 would not exit
    case KVM_CAP_NR_MEMSLOTS:
      SetSlotCount(value);
      return value - kOwnSlots;
    case KVM_CAP_IRQ_ROUTING:
      SetRouteCount(value);
      return value - kOwnRoutes;
    default:
      return value;
  }
}

int VmIoctl(int fd, unsigned long request, void* argument) {
  switch (request) {
    case KVM_CREATE_VCPU:
      return CreateVcpu(fd, reinterpret_cast<unsigned long>(argument));
    case KVM_ENABLE_CAP:
      if (!machine.any) return RealIoctl(fd, request, argument);
      return any::EnableCapability(static_cast<kvm_enable_cap*>(argument));
    case KVM_X86_SET_MSR_FILTER:
      if (!machine.any) return RealIoctl(fd, request, argument);
      return any::SetMsrFilter(static_cast<const kvm_msr_filter*>(argument));
    case kSetGsiRouting:
      return SetQemuRouting(static_cast<IrqRoutingTable*>(argument));
    case KVM_SET_USER_MEMORY_REGION:
    case kSetUserMemoryRegion2: {
      const auto* region = static_cast<kvm_userspace_memory_region*>(argument);
      const int rc = RealIoctl(fd, request, argument);
      // Bits 31..16 number the address space; SMRAM's is not the guest's memory map.
      if (rc == 0 && region->slot >> 16 == 0)
        NoteSlot(region->slot, region->flags, region->guest_phys_addr, region->memory_size, region->userspace_addr);
      return rc;
    }
    default:
      return RealIoctl(fd, request, argument);
  }
}

int VcpuIoctl(Vcpu& vcpu, unsigned long request, void* argument) {
  switch (request) {
    case KVM_RUN:
      return RunVcpu(vcpu);
    case kSetCpuid2:
      return SetCpuid(vcpu, static_cast<CpuidTable*>(argument));
    case KVM_SET_SREGS: {
      const auto* sregs = static_cast<kvm_sregs*>(argument);
      NoteSregs(vcpu, sregs->cs, sregs->cr0);
      return RealIoctl(vcpu.fd, request, argument);
    }
    case kSetSregs2: {
      const auto* sregs = static_cast<kvm_sregs2*>(argument);
      NoteSregs(vcpu, sregs->cs, sregs->cr0);
      return RealIoctl(vcpu.fd, request, argument);
    }
    default:
      return RealIoctl(vcpu.fd, request, argument);
  }
}

}  // namespace
}  // namespace xenshim

extern "C" __attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...) {
  using namespace xenshim;
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (_IOC_TYPE(request) != KVMIO) return RealIoctl(fd, request, argument);
  if (request == KVM_CREATE_VM) return CreateVm(fd, reinterpret_cast<unsigned long>(argument));
  if (request == KVM_CHECK_EXTENSION) return CheckExtension(fd, reinterpret_cast<unsigned long>(argument));
  if (!machine.active()) return RealIoctl(fd, request, argument);
  if (fd == machine.vm_fd) return VmIoctl(fd, request, argument);
  if (Vcpu* vcpu = machine.ByFd(fd)) return VcpuIoctl(*vcpu, request, argument);
  return RealIoctl(fd, request, argument);
}
