// The smallest machine that makes hypercalls: one vCPU in 64-bit mode, one memory slot, no devices. It is started as QEMU
// is, with the plugin preloaded. Arguments: what to do, how often: `bare`, port writes that end in this program's loop, or
// `call`, xen_version(XENVER_version). Prints the nanoseconds that one took.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

constexpr uint64_t kMemory = 4 << 20, kCode = 0x10000, kStubs = 0x11000, kStack = 0x20000;
constexpr uint16_t kBarePort = 0x80, kMarkPort = 0x81;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000 + uint64_t(now.tv_nsec);
}

// Reads EFER as a kernel does; marks; repeats; marks; halts.
void WriteGuest(uint8_t* memory, bool call, uint32_t count) {
  uint64_t* pml4 = reinterpret_cast<uint64_t*>(memory + 0x1000);
  uint64_t* pdpt = reinterpret_cast<uint64_t*>(memory + 0x2000);
  uint64_t* pd = reinterpret_cast<uint64_t*>(memory + 0x3000);
  pml4[0] = 0x2003;
  pdpt[0] = 0x3003;
  for (uint64_t i = 0; i < kMemory >> 21; i++) pd[i] = i << 21 | 0x83;
  uint8_t* at = memory + kCode;
  const auto put = [&](std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) *at++ = byte;
  };
  put({0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32});  // mov ecx, EFER; rdmsr
  put({0xbb});                                      // mov ebx, count
  std::memcpy(at, &count, sizeof count);
  at += sizeof count;
  put({0xe6, kMarkPort});
  const uint8_t* loop = at;
  if (call) {
    put({0xb8, 17, 0, 0, 0, 0x31, 0xff});  // mov eax, xen_version; xor edi, edi
    put({0xe8});                           // call stub
    const auto distance = static_cast<int32_t>(memory + kStubs - (at + 4));
    std::memcpy(at, &distance, sizeof distance);
    at += sizeof distance;
  } else {
    put({0xe6, kBarePort});
  }
  put({0xff, 0xcb, 0x75});  // dec ebx; jnz loop
  *at = static_cast<uint8_t>(loop - (at + 1));
  at++;
  put({0xe6, kMarkPort, 0xf4});
  std::memset(memory + kStubs, 0x90, 64);
  std::memcpy(memory + kStubs, "\x0f\x01\xd9\xc3", 4);
  std::memcpy(memory + kStubs + 16, "\x0f\x01\xc1\xc3", 4);
}

void SetRegisters(int vcpu) {
  kvm_sregs sregs;
  if (ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0) Fail("KVM_GET_SREGS");
  sregs.cr0 = 0x80050033;
  sregs.cr3 = 0x1000;
  sregs.cr4 = 0x20;
  sregs.efer = 0x500;
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.present = segment.s = segment.g = 1;
  segment.type = 3;
  segment.selector = 0x10;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
  segment.type = 11;
  segment.l = 1;
  segment.selector = 8;
  sregs.cs = segment;
  if (ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0) Fail("KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = kCode;
  regs.rsp = kStack;
  regs.rflags = 2;
  if (ioctl(vcpu, KVM_SET_REGS, &regs) != 0) Fail("KVM_SET_REGS");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, nullptr);  // QEMU's kick
  const auto times = static_cast<uint32_t>(std::atoi(arguments[2]));
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) Fail("/dev/kvm");
  const int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
  if (vm < 0) Fail("KVM_CREATE_VM");
  ioctl(vm, KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_NR_MEMSLOTS));
  const int ram = memfd_create("ram", MFD_CLOEXEC);
  if (ftruncate(ram, kMemory) != 0) Fail("ftruncate");
  void* memory = mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
  if (memory == MAP_FAILED) Fail("mmap");
  WriteGuest(static_cast<uint8_t*>(memory), std::strcmp(arguments[1], "call") == 0, times);
  kvm_userspace_memory_region region{0, 0, 0, kMemory, reinterpret_cast<uint64_t>(memory)};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) Fail("KVM_SET_USER_MEMORY_REGION");
  const int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
  if (vcpu < 0) Fail("KVM_CREATE_VCPU");
  const auto size = static_cast<size_t>(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul));
  auto* run = static_cast<kvm_run*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0));
  if (run == MAP_FAILED) Fail("mmap");
  SetRegisters(vcpu);
  uint64_t began = 0;
  for (;;) {
    if (ioctl(vcpu, KVM_RUN, 0ul) != 0) {
      run->immediate_exit = 0;
      if (errno == EINTR) continue;
      Fail("KVM_RUN");
    }
    if (run->exit_reason == KVM_EXIT_HLT) return 0;
    if (run->exit_reason != KVM_EXIT_IO) {
      std::fprintf(stderr, "exit %u\n", run->exit_reason);
      return 1;
    }
    if (run->io.port != kMarkPort) continue;
    if (began == 0) {
      began = Now();
      continue;
    }
    std::printf("%.0f\n", static_cast<double>(Now() - began) / times);
    std::fflush(stdout);
    return 0;
  }
}
