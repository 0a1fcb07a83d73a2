#include "plugin/attributes.h"

#include <cerrno>
#include <mutex>
#include <set>

#include "plugin/log.h"

namespace xenshim {
namespace {

std::mutex mutex;
uint32_t hypercall_msr = 0x40000000;
bool kernel_poll = true;
std::set<uint32_t> routed;  // ports with a send route

// EVTCHNSTAT_* of xen/event_channel.h, as KVM_XEN_ATTR_TYPE_EVTCHN takes them.
constexpr uint32_t kStatusInterdomain = 2;
constexpr uint32_t kStatusIpi = 5;

int SetVm(kvm_xen_hvm_attr& attribute) {
  return RealIoctl(machine.vm_fd, KVM_XEN_HVM_SET_ATTR, &attribute) != 0 ? -errno : 0;
}

int SetOnVcpu(Vcpu& vcpu, kvm_xen_vcpu_attr& attribute) {
  int result = 0;
  WithVcpu(vcpu, [&] {
    result = RealIoctl(vcpu.fd, KVM_XEN_VCPU_SET_ATTR, &attribute) != 0 ? -errno : 0;
  });
  return result;
}

}  // namespace

int EnableXen(uint32_t msr) {
  hypercall_msr = msr;
  kvm_xen_hvm_config config{};
  config.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL;
  // Of all the kernel does by itself, polling alone depends on this flag; the rest depends on routes and timers.
  if (kernel_poll && (machine.capabilities & KVM_XEN_HVM_CONFIG_EVTCHN_SEND) != 0)
    config.flags |= KVM_XEN_HVM_CONFIG_EVTCHN_SEND;
  config.msr = msr;
  return RealIoctl(machine.vm_fd, KVM_XEN_HVM_CONFIG, &config) != 0 ? -errno : 0;
}

int SetKernelPoll(bool on) {
  kernel_poll = on;
  return EnableXen(hypercall_msr);
}

int SetXenVcpuId(Vcpu& vcpu) {
  if ((machine.capabilities & KVM_XEN_HVM_CONFIG_EVTCHN_SEND) == 0) return 0;
  kvm_xen_vcpu_attr attribute{};
  attribute.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID;
  attribute.u.vcpu_id = vcpu.id;
  return SetOnVcpu(vcpu, attribute);
}

int SetLongMode(bool on) {
  kvm_xen_hvm_attr attribute{};
  attribute.type = KVM_XEN_ATTR_TYPE_LONG_MODE;
  attribute.u.long_mode = on;
  return SetVm(attribute);
}

int SetSharedInfo(uint64_t gfn) {
  kvm_xen_hvm_attr attribute{};
  attribute.type = KVM_XEN_ATTR_TYPE_SHARED_INFO;
  attribute.u.shared_info.gfn = gfn == kNone ? KVM_XEN_INVALID_GFN : gfn;
  return SetVm(attribute);
}

int SetCallbackVector(uint64_t vector) {
  kvm_xen_hvm_attr attribute{};
  attribute.type = KVM_XEN_ATTR_TYPE_UPCALL_VECTOR;
  attribute.u.vector = static_cast<uint8_t>(vector);
  return SetVm(attribute);
}

int SetRunstateUpdate(bool on) {
  kvm_xen_hvm_attr attribute{};
  attribute.type = KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG;
  attribute.u.long_mode = on;  // the flag is the first byte of the union, as long_mode is
  return SetVm(attribute);
}

int SetVcpuAddress(Vcpu& vcpu, uint16_t type, uint64_t gpa) {
  kvm_xen_vcpu_attr attribute{};
  attribute.type = type;
  attribute.u.gpa = gpa == kNone ? KVM_XEN_INVALID_GPA : gpa;
  return SetOnVcpu(vcpu, attribute);
}

int GetRunstate(Vcpu& vcpu, uint64_t (&out)[kArgs]) {
  kvm_xen_vcpu_attr attribute{};
  attribute.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA;
  int result = 0;
  WithVcpu(vcpu, [&] {
    result = RealIoctl(vcpu.fd, KVM_XEN_VCPU_GET_ATTR, &attribute) != 0 ? -errno : 0;
  });
  out[0] = attribute.u.runstate.state;
  out[1] = attribute.u.runstate.state_entry_time;
  out[2] = attribute.u.runstate.time_running;
  out[3] = attribute.u.runstate.time_runnable;
  out[4] = attribute.u.runstate.time_blocked;
  out[5] = attribute.u.runstate.time_offline;
  return result;
}

int SetUpcallVector(Vcpu& vcpu, uint64_t vector) {
  kvm_xen_vcpu_attr attribute{};
  attribute.type = KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR;
  attribute.u.vector = static_cast<uint8_t>(vector);
  return SetOnVcpu(vcpu, attribute);
}

int SetTimer(Vcpu& vcpu, uint64_t port, uint64_t expires) {
  kvm_xen_vcpu_attr attribute{};
  attribute.type = KVM_XEN_VCPU_ATTR_TYPE_TIMER;
  attribute.u.timer.port = static_cast<uint32_t>(port);
  attribute.u.timer.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL;
  attribute.u.timer.expires_ns = expires;
  return SetOnVcpu(vcpu, attribute);
}

int RouteSend(uint64_t port, uint64_t kind, uint64_t target, uint64_t vcpu, int fd) {
  std::lock_guard lock(mutex);
  kvm_xen_hvm_attr attribute{};
  attribute.type = KVM_XEN_ATTR_TYPE_EVTCHN;
  auto& evtchn = attribute.u.evtchn;
  evtchn.send_port = static_cast<uint32_t>(port);
  const bool known = routed.contains(evtchn.send_port);
  if (known) {
    // The kernel can change the target of a route but not its kind: take the old one away first.
    evtchn.flags = KVM_XEN_EVTCHN_DEASSIGN;
    SetVm(attribute);
    routed.erase(evtchn.send_port);
    evtchn.flags = 0;
  }
  if (kind == 0) return 0;
  if (kind == 1) {
    evtchn.type = kStatusInterdomain;
    evtchn.deliver.eventfd.port = 0;
    evtchn.deliver.eventfd.fd = fd;
  } else {
    Vcpu* to = machine.ById(vcpu);
    if (to == nullptr) return -ENOENT;
    evtchn.type = kStatusIpi;
    evtchn.deliver.port.port = static_cast<uint32_t>(target);
    evtchn.deliver.port.vcpu = to->kvm_id;
    evtchn.deliver.port.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL;
  }
  const int rc = SetVm(attribute);
  if (rc == 0) routed.insert(evtchn.send_port);
  return rc;
}

int Raise(uint64_t port, uint64_t vcpu) {
  Vcpu* to = machine.ById(vcpu);
  if (to == nullptr) return -ENOENT;
  kvm_irq_routing_xen_evtchn event{};
  event.port = static_cast<uint32_t>(port);
  event.vcpu = to->kvm_id;
  event.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL;
  // ENOTCONN: the event was masked or pending already; both are no error.
  return RealIoctl(machine.vm_fd, KVM_XEN_HVM_EVTCHN_SEND, &event) < 0 && errno != ENOTCONN ? -errno : 0;
}

void ClearAttributes() {
  for (auto& vcpu : machine.vcpus) {
    SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, kNone);
    SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, kNone);
    if ((machine.capabilities & KVM_XEN_HVM_CONFIG_RUNSTATE) != 0)
      SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, kNone);
    if ((machine.capabilities & KVM_XEN_HVM_CONFIG_EVTCHN_SEND) != 0) {
      SetTimer(*vcpu, 0, 0);
      SetUpcallVector(*vcpu, 0);
    }
  }
  SetCallbackVector(0);
  SetSharedInfo(kNone);
  std::lock_guard lock(mutex);
  if (!routed.empty()) {
    kvm_xen_hvm_attr attribute{};
    attribute.type = KVM_XEN_ATTR_TYPE_EVTCHN;
    attribute.u.evtchn.flags = KVM_XEN_EVTCHN_RESET;
    SetVm(attribute);
    routed.clear();
  }
}

}  // namespace xenshim
