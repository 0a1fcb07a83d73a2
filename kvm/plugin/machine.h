// The one virtual machine of this QEMU process and its vCPUs. Everything the other files share hangs here.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <condition_variable>
#include <vector>

#include "core/kvm_abi.h"
#include "core/protocol.h"

namespace xenshim {

// The kernel's ioctl, past our own interposer. Returns -1 with errno, as ioctl does.
int RealIoctl(int fd, unsigned long request, void* argument);
inline int RealIoctl(int fd, unsigned long request, unsigned long argument) {
  return RealIoctl(fd, request, reinterpret_cast<void*>(argument));
}

class ConfigScript;  // pci.h: I/O that the plugin has QEMU do on its behalf, in the middle of a guest exit

struct Vcpu {
  int fd = -1;
  uint32_t id = 0;      // Xen's number: order of creation, which is also the ACPI processor UID QEMU gives
  uint32_t kvm_id = 0;  // KVM's number: the APIC id
  kvm_run* run = nullptr;

  // Held by whoever issues ioctls on `fd` outside KVM_RUN; `running` is true while the thread is in KVM_RUN.
  std::mutex mutex;
  std::condition_variable done;
  bool running = false;
  bool has_thread = false;
  pthread_t thread{};
  std::vector<std::function<void()>> work;  // to be done by the vCPU's thread as soon as it leaves KVM_RUN

  // Of the vCPU's thread alone.
  // Brings the answer of a hypercall to the guest; none: through the run structure of a Xen exit.
  void (*answer)(Vcpu&, int64_t result) = nullptr;
  bool in_slot = false;        // waits in its exit slot; KVM_RUN must not be entered before the answer
  bool reset_pending = false;  // announces a machine reset before it runs again
  std::unique_ptr<ConfigScript> script;
};

struct Machine {
  int kvm_fd = -1;
  int vm_fd = -1;
  int capabilities = 0;  // KVM_CAP_XEN_HVM, or what stands for it
  bool any = false;      // KVM's Xen interfaces are done without: plugin/any
  size_t run_size = 0;
  uint32_t xen_version = 0;
  Shared* shared = nullptr;
  int doorbell = -1;
  std::vector<std::unique_ptr<Vcpu>> vcpus;  // grows only under QEMU's own lock; never shrinks
  std::atomic<uint32_t> power{0};            // PowerAction waiting to be carried out by vCPU 0
  std::atomic<bool> held{false};             // no vCPU enters the guest until a reset
  std::atomic<bool> closed{false};           // the shim is gone
  std::atomic<bool> has_run{false};          // the first vCPU has been in the guest since the last reset

  bool active() const { return shared != nullptr; }
  Vcpu* ByFd(int fd);
  Vcpu* ById(uint64_t id);
};

extern Machine machine;

// Runs `work` with exclusive use of the vCPU's descriptor: here if its thread is not in the guest, otherwise on its
// thread, which is kicked out. Returns when it has been done. Not to be called by the vCPU's own thread from KVM_RUN.
void WithVcpu(Vcpu& vcpu, std::function<void()> work);
// Makes the vCPU's thread leave the guest or its wait soon.
void Kick(Vcpu& vcpu);

// KVM_RUN, with the exits that are ours handled on the way. Returns as the ioctl would.
int RunVcpu(Vcpu& vcpu);

// A hypercall as the shim gets it.
struct Hypercall {
  uint32_t nr, cpl;
  bool long_mode;
  uint64_t args[6];
};

// hypercall.cc
// That of a Xen exit.
void PostHypercall(Vcpu& vcpu);
void PostHypercall(Vcpu& vcpu, const Hypercall& call, const kvm_sregs& sregs);
void PostReset(Vcpu& vcpu);
// Waits for the slot's answer; false if QEMU or a power action wants the thread first (call again later).
bool WaitForAnswer(Vcpu& vcpu);
void DropSlot(Vcpu& vcpu);

// reset.cc: takes back everything done to the VM on the shim's behalf
void UndoEverything();

}  // namespace xenshim
