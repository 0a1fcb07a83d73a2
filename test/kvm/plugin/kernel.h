// The kernel beneath the plugin: records what it is told and plays the guest's exits.
#pragma once
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "core/kvm_abi.h"

namespace harness {

constexpr int kKvmFd = 900;
constexpr size_t kRunSize = 3 * 4096;  // the run structure, port data, coalesced MMIO

// What a guest does that leaves it: fills the run structure.
using Exit = std::function<void(kvm_run&)>;

struct KernelVcpu {
  kvm_run* run = nullptr;
  std::deque<Exit> exits;        // to come
  std::function<void(kvm_run&)> completed;  // KVM_RUN entered again after the exit shown last
  bool open = false;
  std::vector<kvm_cpuid_entry2> cpuid;
  std::vector<kvm_xen_vcpu_attr> attributes;
  unsigned sregs = 0;            // KVM_SET_SREGS seen
  kvm_regs regs{.rip = 0x1234};
  kvm_sregs system{};
  uint64_t tsc = 0;
  int mp_state = KVM_MP_STATE_RUNNABLE;
  std::vector<kvm_msr_entry> msrs;  // set by the host
  std::atomic<bool> inside{false};   // in KVM_RUN
  std::atomic<unsigned> entries{0};  // of KVM_RUN
  bool blocks = false;           // stays inside, with no exit to come, until told to leave
};

struct Kernel {
  std::map<int, int> capabilities;
  int vm_fd = -1;
  std::map<int, KernelVcpu> vcpus;  // by descriptor
  std::vector<kvm_irq_routing_entry> routing;
  std::vector<kvm_irqfd> irqfds;
  std::map<uint32_t, kvm_userspace_memory_region> slots;
  std::vector<kvm_xen_hvm_attr> attributes;
  std::vector<kvm_xen_hvm_config> configs;
  std::vector<kvm_enable_cap> enabled;
  std::vector<kvm_msr_filter> filters;
  std::vector<kvm_msi> messages;
  std::mutex messages_mutex;
  uint64_t clock = 1'000'000'000;
  unsigned long refuse = 0;  // the next of these requests fails with `refusal`
  int refusal = 0;
};

extern Kernel kernel;

}  // namespace harness
