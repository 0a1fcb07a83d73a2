#include "plugin/any/clock.h"

#include <time.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

namespace xenshim::any {
namespace {

constexpr uint32_t kSystemTimeMsr = 0x4b564d01;  // MSR_KVM_SYSTEM_TIME_NEW
constexpr uint32_t kTsc = 0x10;
constexpr uint64_t kTimeInVcpuInfo = 32;
constexpr uint64_t kSecond = 1'000'000'000;

}  // namespace

uint64_t SystemTime() {
  kvm_clock_data clock{};
  return RealIoctl(machine.vm_fd, KVM_GET_CLOCK, &clock) == 0 ? clock.clock : 0;
}

uint64_t TimeOf(Vcpu& vcpu, const uint8_t* info) {
  // struct pvclock_vcpu_time_info
  struct Time {
    uint32_t version, pad;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, more[2];
  };
  static_assert(sizeof(Time) == 32);
  Time time;
  std::memcpy(&time, info + kTimeInVcpuInfo, sizeof time);
  OneMsr tsc{};
  tsc.nmsrs = 1;
  tsc.entry.index = kTsc;
  // The kernel writes the structure when the vCPU enters the guest, which it does not do meanwhile.
  if (time.version == 0 || time.version % 2 != 0 || time.tsc_shift < -31 || time.tsc_shift > 31 ||
      RealIoctl(vcpu.fd, kGetMsrs, &tsc) != 1)
    return SystemTime();
  uint64_t delta = tsc.entry.data - time.tsc_timestamp;
  delta = time.tsc_shift < 0 ? delta >> -time.tsc_shift : delta << time.tsc_shift;
  return time.system_time + static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * time.tsc_to_system_mul >> 32);
}

namespace {

std::mutex mutex;
auto& kept = *new std::map<uint32_t, uint64_t>;  // what the register holds, by Xen's vCPU number

int SetTimeMsr(Vcpu& vcpu, uint64_t value) {
  OneMsr msrs{};
  msrs.nmsrs = 1;
  msrs.entry.index = kSystemTimeMsr;
  msrs.entry.data = value;
  int result = 0;
  WithVcpu(vcpu, [&] { result = RealIoctl(vcpu.fd, kSetMsrs, &msrs) == 1 ? 0 : -EINVAL; });
  return result;
}

}  // namespace

int KeepTime(Vcpu& vcpu, uint64_t gpa) {
  const uint64_t value = gpa == kNone ? 0 : (gpa + kTimeInVcpuInfo) | 1;  // bit 0: enabled
  const int rc = SetTimeMsr(vcpu, value);
  std::lock_guard lock(mutex);
  if (rc == 0) kept[vcpu.id] = value;
  return rc;
}

void KeepTimeAgain(Vcpu& vcpu) {
  uint64_t value = 0;
  {
    std::lock_guard lock(mutex);
    if (const auto found = kept.find(vcpu.id); found != kept.end()) value = found->second;
  }
  if (value != 0) SetTimeMsr(vcpu, value);
}

void WriteWallClock(uint8_t* shared_info, bool long_mode) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t began = uint64_t(now.tv_sec) * kSecond + uint64_t(now.tv_nsec) - SystemTime();
  auto* words = reinterpret_cast<uint32_t*>(shared_info);
  // wc_version, wc_sec and wc_nsec follow each other; the version is odd while they change.
  const size_t at = (long_mode ? 3072 : 2304) / 4, high = (long_mode ? 3084 : 2340) / 4;
  __atomic_fetch_or(&words[at], 1u, __ATOMIC_SEQ_CST);
  __atomic_store_n(&words[at + 1], static_cast<uint32_t>(began / kSecond), __ATOMIC_SEQ_CST);
  __atomic_store_n(&words[high], static_cast<uint32_t>(began / kSecond >> 32), __ATOMIC_SEQ_CST);
  __atomic_store_n(&words[at + 2], static_cast<uint32_t>(began % kSecond), __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&words[at], 1u, __ATOMIC_SEQ_CST);
}

}  // namespace xenshim::any
