#include "plugin/any/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <shared_mutex>
#include <vector>

#include "plugin/any/clock.h"
#include "plugin/any/watcher.h"
#include "plugin/log.h"
#include "plugin/ram.h"

namespace xenshim::any {
namespace {

// Byte offsets of struct shared_info and struct vcpu_info (xen/xen.h).
constexpr size_t kPending = 2048;
constexpr size_t kMask64 = 2560, kMask32 = 2176;
constexpr size_t kSelector64 = 8, kSelector32 = 4;
constexpr uint32_t kPorts64 = 4096, kPorts32 = 1024;

struct Target {
  GuestPage page;
  uint8_t* info = nullptr;
  uint8_t vector = 0;
};

struct Route {
  int fd;  // of an interdomain channel, or -1: another port of the guest
  uint32_t port, vcpu;
};

struct Binding {
  uint32_t port, vcpu;
  int fd;
};

// Written by the service thread; read by vCPUs and the watcher for every event.
std::shared_mutex mutex;
bool wide = true;
auto& shared_page = *new GuestPage;
auto& targets = *new std::map<uint32_t, Target>;  // by Xen's vCPU number
auto& routes = *new std::map<uint32_t, Route>;
auto& bindings = *new std::map<uint64_t, Binding>;

// The byte order is the processor's own, so a bit array of 64-bit words is one of 32-bit words.
uint32_t* Word(uint8_t* base, uint32_t bit) { return reinterpret_cast<uint32_t*>(base) + bit / 32; }
bool SetBit(uint8_t* base, uint32_t bit) {
  return (__atomic_fetch_or(Word(base, bit), 1u << bit % 32, __ATOMIC_SEQ_CST) >> bit % 32 & 1) != 0;
}
bool TestBit(uint8_t* base, uint32_t bit) {
  return (__atomic_load_n(Word(base, bit), __ATOMIC_SEQ_CST) >> bit % 32 & 1) != 0;
}

// A fixed interrupt for one local APIC, as a message (Intel SDM vol. 3, 11.11).
void Interrupt(const Vcpu& vcpu, uint8_t vector) {
  kvm_msi message{};
  message.address_lo = 0xfee00000u | (vcpu.kvm_id & 0xff) << 12;
  message.address_hi = vcpu.kvm_id & ~0xffu;
  message.data = vector;
  if (RealIoctl(machine.vm_fd, KVM_SIGNAL_MSI, &message) >= 0) return;
  static bool said = false;
  if (!said) Log(Level::kError, "KVM_SIGNAL_MSI: %m: no event reaches the guest; use kernel-irqchip=on or split");
  said = true;
}

}  // namespace

void SetEventWidth(bool long_mode) {
  std::unique_lock lock(mutex);
  wide = long_mode;
}

int PlaceSharedInfo(uint64_t gfn) {
  GuestPage page;
  if (gfn != kNone && !(page = MapGuestPage(gfn))) return -EINVAL;
  std::unique_lock lock(mutex);
  shared_page = std::move(page);
  return 0;
}

int PlaceVcpuInfo(Vcpu& vcpu, uint64_t gpa) {
  Target placed;
  if (gpa != kNone) {
    if (gpa % 8 != 0 || !(placed.page = MapGuestPage(gpa >> 12))) return -EINVAL;
    placed.info = placed.page.get() + (gpa & 0xfff);
  }
  std::unique_lock lock(mutex);
  Target& target = targets[vcpu.id];
  placed.vector = target.vector;
  target = std::move(placed);
  return 0;
}

int SetVector(Vcpu& vcpu, uint64_t vector) {
  std::unique_lock lock(mutex);
  Target& target = targets[vcpu.id];
  target.vector = static_cast<uint8_t>(vector);
  // What came before the guest had chosen is told now.
  if (vector != 0 && target.info != nullptr && __atomic_load_n(target.info, __ATOMIC_SEQ_CST) != 0)
    Interrupt(vcpu, target.vector);
  return 0;
}

uint64_t GuestTime(Vcpu& vcpu) {
  std::shared_lock lock(mutex);
  const auto target = targets.find(vcpu.id);
  const uint8_t* info = target == targets.end() ? nullptr : target->second.info;
  return info == nullptr ? SystemTime() : TimeOf(vcpu, info);
}

int Deliver(uint32_t port, uint32_t vcpu) {
  Vcpu* to = machine.ById(vcpu);
  if (to == nullptr) return -ENOENT;
  std::shared_lock lock(mutex);
  if (port == 0 || port >= (wide ? kPorts64 : kPorts32)) return -EINVAL;
  uint8_t* shared = shared_page.get();
  if (shared == nullptr) return -EINVAL;
  if (SetBit(shared + kPending, port) || TestBit(shared + (wide ? kMask64 : kMask32), port)) return 0;
  const auto target = targets.find(vcpu);
  // Without a vcpu_info the event stays pending; the shim raises it anew when the guest registers one.
  if (target == targets.end() || target->second.info == nullptr) return 0;
  uint8_t* info = target->second.info;
  // A vCPU that was told of this word and has not looked yet is told again: its local APIC drops what comes while it is
  // off, as in a guest's first moments, and takes two of the same for one.
  SetBit(info + (wide ? kSelector64 : kSelector32), wide ? port / 64 : port / 32);
  __atomic_store_n(info, uint8_t{1}, __ATOMIC_SEQ_CST);
  if (target->second.vector != 0) Interrupt(*to, target->second.vector);
  return 0;
}

int SetSendRoute(uint64_t port, uint64_t kind, uint64_t target, uint64_t vcpu, int fd) {
  std::unique_lock lock(mutex);
  const auto number = static_cast<uint32_t>(port);
  if (const auto old = routes.find(number); old != routes.end()) {
    if (old->second.fd >= 0) close(old->second.fd);
    routes.erase(old);
  }
  if (kind == 0) return 0;
  if (kind == 2) {
    if (machine.ById(vcpu) == nullptr) return -ENOENT;
    routes[number] = Route{-1, static_cast<uint32_t>(target), static_cast<uint32_t>(vcpu)};
    return 0;
  }
  const int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (kept < 0) return -errno;
  routes[number] = Route{kept, 0, 0};
  return 0;
}

bool Send(uint32_t port) {
  Route route;
  {
    std::shared_lock lock(mutex);
    const auto found = routes.find(port);
    if (found == routes.end()) return false;
    route = found->second;
    if (route.fd >= 0) {
      const uint64_t one = 1;
      // A full counter has been signalled already.
      return write(route.fd, &one, sizeof one) == sizeof one || errno == EAGAIN;
    }
  }
  Deliver(route.port, route.vcpu);
  return true;
}

int BindEventfd(uint64_t key, uint64_t port, uint64_t vcpu, int fd) {
  if (machine.ById(vcpu) == nullptr) return -ENOENT;
  const int kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (kept < 0) return -errno;
  {
    std::unique_lock lock(mutex);
    if (bindings.contains(key)) {
      close(kept);
      return -EEXIST;
    }
    bindings[key] = Binding{static_cast<uint32_t>(port), static_cast<uint32_t>(vcpu), kept};
  }
  Watch(kept, [key, kept] {
    uint64_t count;
    if (read(kept, &count, sizeof count) != sizeof count) return;
    Binding binding;
    {
      std::shared_lock lock(mutex);
      const auto found = bindings.find(key);
      if (found == bindings.end()) return;
      binding = found->second;
    }
    Deliver(binding.port, binding.vcpu);
  });
  return 0;
}

int MoveEventfd(uint64_t key, uint64_t vcpu) {
  std::unique_lock lock(mutex);
  const auto found = bindings.find(key);
  if (machine.ById(vcpu) == nullptr || found == bindings.end()) return -ENOENT;
  found->second.vcpu = static_cast<uint32_t>(vcpu);
  return 0;
}

int UnbindEventfd(uint64_t key) {
  int fd;
  {
    std::unique_lock lock(mutex);
    const auto found = bindings.find(key);
    if (found == bindings.end()) return 0;
    fd = found->second.fd;
    bindings.erase(found);
  }
  Unwatch(fd);
  close(fd);
  return 0;
}

void ForgetEvents() {
  std::vector<uint64_t> keys;
  {
    std::unique_lock lock(mutex);
    for (const auto& [key, binding] : bindings) keys.push_back(key);
    for (const auto& [port, route] : routes)
      if (route.fd >= 0) close(route.fd);
    routes.clear();
    targets.clear();
    shared_page = GuestPage();
    wide = true;
  }
  for (const uint64_t key : keys) UnbindEventfd(key);
}

}  // namespace xenshim::any
