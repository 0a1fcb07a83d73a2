// 2-level event channels (xen/event_channel.h) as the kernel's KVM_XEN carries them out: bits in the guest's shared_info
// and vcpu_info, and an interrupt for the vCPU that has to look.
#pragma once
#include <cstdint>

#include "plugin/machine.h"

namespace xenshim::any {

void SetEventWidth(bool long_mode);
// 0 or a negative errno. `gpa` in bytes or kNone.
int PlaceSharedInfo(uint64_t gfn);
int PlaceVcpuInfo(Vcpu& vcpu, uint64_t gpa);
int SetVector(Vcpu& vcpu, uint64_t vector);

// ns of system time as this vCPU reads it in its vcpu_info. By its own thread.
uint64_t GuestTime(Vcpu& vcpu);

// Makes the port pending and tells the vCPU unless it knows already.
int Deliver(uint32_t port, uint32_t vcpu);

// Where EVTCHNOP_send of a port goes: the arguments of kRouteSend. Takes no possession of `fd`.
int SetSendRoute(uint64_t port, uint64_t kind, uint64_t target, uint64_t vcpu, int fd);
// Carries a send out; false if the port has no route.
bool Send(uint32_t port);

// Eventfds that raise a port, by the shim's key.
int BindEventfd(uint64_t key, uint64_t port, uint64_t vcpu, int fd);
int MoveEventfd(uint64_t key, uint64_t vcpu);
int UnbindEventfd(uint64_t key);

void ForgetEvents();

}  // namespace xenshim::any
