#include "kernel.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "harness.h"

namespace harness {

Kernel kernel;

namespace {

int Refused(int error) {
  errno = error;
  return -1;
}

int Run(KernelVcpu& vcpu) {
  vcpu.entries++;
  kvm_run& run = *vcpu.run;
  if (vcpu.open) {
    vcpu.open = false;
    if (vcpu.completed) vcpu.completed(run);
  }
  vcpu.inside = true;
  while (vcpu.blocks && vcpu.exits.empty() && static_cast<volatile kvm_run&>(run).immediate_exit == 0) {
    const timespec while_ago{0, 200'000};
    nanosleep(&while_ago, nullptr);
  }
  vcpu.inside = false;
  if (run.immediate_exit != 0 || vcpu.exits.empty()) return Refused(EINTR);
  const Exit exit = std::move(vcpu.exits.front());
  vcpu.exits.pop_front();
  exit(run);
  vcpu.open = true;
  return 0;
}

int VcpuRequest(KernelVcpu& vcpu, unsigned long request, void* argument) {
  switch (request) {
    case KVM_RUN:
      return Run(vcpu);
    case xenshim::kSetCpuid2: {
      const auto* table = static_cast<const xenshim::CpuidTable*>(argument);
      vcpu.cpuid.assign(table->entries(), table->entries() + table->nent);
      return 0;
    }
    case KVM_SET_SREGS:
    case xenshim::kSetSregs2:
      vcpu.sregs++;
      return 0;
    case KVM_GET_SREGS:
      *static_cast<kvm_sregs*>(argument) = vcpu.system;
      return 0;
    case KVM_GET_REGS:
      *static_cast<kvm_regs*>(argument) = vcpu.regs;
      return 0;
    case KVM_SET_REGS:
      vcpu.regs = *static_cast<kvm_regs*>(argument);
      return 0;
    case KVM_GET_MP_STATE:
      static_cast<kvm_mp_state*>(argument)->mp_state = static_cast<uint32_t>(vcpu.mp_state);
      return 0;
    case xenshim::kGetMsrs:
      static_cast<xenshim::OneMsr*>(argument)->entry.data = vcpu.tsc;
      return 1;
    case xenshim::kSetMsrs:
      vcpu.msrs.push_back(static_cast<xenshim::OneMsr*>(argument)->entry);
      return 1;
    case KVM_TRANSLATE: {
      // Linear addresses are physical ones, as far as there is memory.
      auto& translation = *static_cast<kvm_translation*>(argument);
      translation.physical_address = translation.linear_address;
      translation.valid = translation.linear_address < uint64_t{1} << 40;
      return 0;
    }
    case KVM_XEN_VCPU_SET_ATTR:
      vcpu.attributes.push_back(*static_cast<kvm_xen_vcpu_attr*>(argument));
      return 0;
    default:
      return Refused(ENOTTY);
  }
}

int VmRequest(unsigned long request, void* argument) {
  switch (request) {
    case KVM_CREATE_VCPU: {
      const int fd = static_cast<int>(syscall(SYS_memfd_create, "vcpu", 0));
      CHECK(ftruncate(fd, kRunSize) == 0);
      void* run = mmap(nullptr, kRunSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      CHECK(run != MAP_FAILED);
      kernel.vcpus[fd].run = static_cast<kvm_run*>(run);
      return fd;
    }
    case xenshim::kSetGsiRouting: {
      const auto* table = static_cast<const xenshim::IrqRoutingTable*>(argument);
      if (table->nr > 4096) return Refused(EINVAL);
      kernel.routing.assign(table->entries(), table->entries() + table->nr);
      return 0;
    }
    case KVM_IRQFD:
      kernel.irqfds.push_back(*static_cast<kvm_irqfd*>(argument));
      return 0;
    case KVM_SET_USER_MEMORY_REGION:
    case xenshim::kSetUserMemoryRegion2: {
      const auto& region = *static_cast<const kvm_userspace_memory_region*>(argument);
      if (region.memory_size == 0) {
        kernel.slots.erase(region.slot);
      } else {
        kernel.slots[region.slot] = region;
      }
      return 0;
    }
    case KVM_ENABLE_CAP:
      kernel.enabled.push_back(*static_cast<kvm_enable_cap*>(argument));
      return 0;
    case KVM_X86_SET_MSR_FILTER:
      kernel.filters.push_back(*static_cast<kvm_msr_filter*>(argument));
      return 0;
    case KVM_GET_CLOCK:
      static_cast<kvm_clock_data*>(argument)->clock = kernel.clock;
      return 0;
    case KVM_SIGNAL_MSI: {
      std::lock_guard lock(kernel.messages_mutex);
      kernel.messages.push_back(*static_cast<kvm_msi*>(argument));
      return 1;
    }
    case KVM_XEN_HVM_CONFIG:
      kernel.configs.push_back(*static_cast<kvm_xen_hvm_config*>(argument));
      return 0;
    case KVM_XEN_HVM_SET_ATTR:
      kernel.attributes.push_back(*static_cast<kvm_xen_hvm_attr*>(argument));
      return 0;
    default:
      return Refused(ENOTTY);
  }
}

int Ioctl(int fd, unsigned long request, void* argument) {
  if (kernel.refuse == request && request != 0) {
    kernel.refuse = 0;
    return Refused(kernel.refusal);
  }
  if (request == KVM_CHECK_EXTENSION) {
    const auto found = kernel.capabilities.find(static_cast<int>(reinterpret_cast<long>(argument)));
    return found == kernel.capabilities.end() ? 0 : found->second;
  }
  if (request == KVM_GET_VCPU_MMAP_SIZE) return kRunSize;
  if (request == KVM_CREATE_VM) return kernel.vm_fd = static_cast<int>(::syscall(SYS_memfd_create, "vm", 0));
  if (fd == kernel.vm_fd) return VmRequest(request, argument);
  const auto vcpu = kernel.vcpus.find(fd);
  return vcpu == kernel.vcpus.end() ? Refused(EBADF) : VcpuRequest(vcpu->second, request, argument);
}

}  // namespace
}  // namespace harness

// The plugin reaches the kernel past its own ioctl() with this. What is not KVM's is real.
extern "C" long syscall(long number, ...) noexcept {
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (long& each : a) each = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_ioctl && _IOC_TYPE(static_cast<unsigned long>(a[1])) == KVMIO)
    return harness::Ioctl(static_cast<int>(a[0]), static_cast<unsigned long>(a[1]), reinterpret_cast<void*>(a[2]));
  register long r10 asm("r10") = a[3];
  register long r8 asm("r8") = a[4];
  register long r9 asm("r9") = a[5];
  long result = number;
  asm volatile("syscall" : "+a"(result) : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}
