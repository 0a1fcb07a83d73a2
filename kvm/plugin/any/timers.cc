#include "plugin/any/timers.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>

#include "plugin/any/events.h"
#include "plugin/any/watcher.h"

namespace xenshim::any {
namespace {

struct Timer {
  int fd = -1;
  uint32_t port = 0;
};

std::mutex mutex;
auto& timers = *new std::map<uint32_t, Timer>;  // by Xen's vCPU number; their descriptors stay

void Set(int fd, uint64_t nanoseconds) {
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
  timerfd_settime(fd, 0, &when, nullptr);
}

}  // namespace

int SetTimerPort(Vcpu& vcpu, uint64_t port, uint64_t expires) {
  int fd = -1;
  {
    std::lock_guard lock(mutex);
    Timer& timer = timers[vcpu.id];
    if (timer.fd < 0) {
      timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
      if (timer.fd < 0) return -errno;
      fd = timer.fd;
    }
    timer.port = static_cast<uint32_t>(port);
    Set(timer.fd, 0);
  }
  if (fd >= 0) {
    Watch(fd, [fd, id = vcpu.id] {
      uint64_t count;
      if (read(fd, &count, sizeof count) != sizeof count) return;
      uint32_t raised;
      {
        std::lock_guard lock(mutex);
        raised = timers[id].port;
      }
      if (raised != 0) Deliver(raised, id);
    });
  }
  if (port != 0 && expires != 0) ArmTimer(vcpu, expires);
  return 0;
}

bool ArmTimer(Vcpu& vcpu, uint64_t deadline) {
  // By the vCPU's own clock: KVM_GET_CLOCK may be ahead of it, and an interrupt before its time is answered with the
  // same deadline again.
  const uint64_t now = deadline == 0 ? 0 : GuestTime(vcpu);
  uint32_t port;
  {
    std::lock_guard lock(mutex);
    const auto found = timers.find(vcpu.id);
    if (found == timers.end() || found->second.port == 0) return false;
    port = found->second.port;
    if (deadline == 0) {
      Set(found->second.fd, 0);
      return true;
    }
    if (deadline > now) {
      Set(found->second.fd, deadline - now);
      return true;
    }
    Set(found->second.fd, 0);
  }
  Deliver(port, vcpu.id);
  return true;
}

void ForgetTimers() {
  std::lock_guard lock(mutex);
  for (auto& [id, timer] : timers) {
    timer.port = 0;
    Set(timer.fd, 0);
  }
}

}  // namespace xenshim::any
