#include "plugin/requests.h"

#include <cerrno>

#include "plugin/any/any.h"
#include "plugin/attributes.h"
#include "plugin/irqfd.h"
#include "plugin/machine.h"
#include "plugin/paging.h"
#include "plugin/ram.h"

namespace xenshim {

int64_t HandleRequest(const Message& request, int fd, Message& reply) {
  const uint64_t* arg = request.arg;
  int64_t result = 0;
  Vcpu* vcpu = nullptr;
  switch (request.op) {
    case kSetVcpuInfo:
    case kSetVcpuTimeInfo:
    case kSetRunstateArea:
    case kGetRunstate:
    case kSetUpcallVector:
    case kSetTimer:
      vcpu = machine.ById(arg[0]);
      if (vcpu == nullptr) return -ENOENT;
      break;
    default:
      break;
  }
  if (machine.any && any::HandleRequest(request, vcpu, fd, reply, result)) return result;
  switch (request.op) {
    case kSetLongMode: return SetLongMode(arg[0] != 0);
    case kSetSharedInfo: return SetSharedInfo(arg[0]);
    case kSetCallbackVector: return SetCallbackVector(arg[0]);
    case kSetRunstateUpdate: return SetRunstateUpdate(arg[0] != 0);
    case kSetVcpuInfo: return SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, arg[1]);
    case kSetVcpuTimeInfo: return SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, arg[1]);
    case kSetRunstateArea: return SetVcpuAddress(*vcpu, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, arg[1]);
    case kGetRunstate: return GetRunstate(*vcpu, reply.arg);
    case kSetUpcallVector: return SetUpcallVector(*vcpu, arg[1]);
    case kSetTimer: return SetTimer(*vcpu, arg[1], arg[2]);
    case kRouteSend: return RouteSend(arg[0], arg[1], arg[2], arg[3], fd);
    case kBindIrqfd: return BindIrqfd(arg[0], arg[1], arg[2], fd);
    case kMoveIrqfd: return MoveIrqfd(arg[0], arg[1]);
    case kUnbindIrqfd: return UnbindIrqfd(arg[0]);
    case kPlacePage: return PlaceOwnPage(arg[0], arg[1]);
    case kRemovePage: return RemoveOwnPage(arg[0]);
    case kGetTime: {
      kvm_clock_data clock{};
      if (RealIoctl(machine.vm_fd, KVM_GET_CLOCK, &clock) != 0) return -errno;
      reply.arg[0] = clock.clock;
      return 0;
    }
    case kSetKernelPoll: return SetKernelPoll(arg[0] != 0);
    case kWatchRam: return WatchRam();
    case kRaise: return Raise(arg[0], arg[1]);
    case kSetGsi: {
      kvm_irq_level level{};
      level.irq = static_cast<uint32_t>(arg[0]);
      level.level = arg[1] != 0;
      return RealIoctl(machine.vm_fd, KVM_IRQ_LINE, &level) != 0 ? -errno : 0;
    }
    case kPower:
      if (arg[0] == PowerAction::kHold) {
        machine.held.store(true);
        for (auto& each : machine.vcpus) Kick(*each);
        return 0;
      }
      machine.power.store(static_cast<uint32_t>(arg[0]));
      if (Vcpu* first = machine.ById(0)) Kick(*first);
      return 0;
    default: return -ENOSYS;
  }
}

}  // namespace xenshim
