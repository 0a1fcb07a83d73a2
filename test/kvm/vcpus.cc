// vCPU threads as the plugin has them, without KVM: its own exit slots (kvm/plugin/hypercall.cc) against a real shim.
// Descriptor 3 is the bridge socket. Arguments: threads, hypercalls each. Prints the nanoseconds a call took on average;
// exits with 1 and a line for the first wrong answer.
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "plugin/log.h"
#include "plugin/machine.h"
#include "plugin/pci.h"
#include "plugin/ram.h"

namespace xenshim {

Machine machine;

// The only ioctl the slots need: the vCPU's control registers.
int RealIoctl(int fd, unsigned long, void* argument) {
  static_cast<kvm_sregs*>(argument)->cr3 = static_cast<uint64_t>(fd);
  return 0;
}

void AnnounceRamIfChanged() {}

void Log(Level, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
}

}  // namespace xenshim

using namespace xenshim;

namespace {

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

void Connect() {
  Message message{.op = kHello};
  message.arg[0] = kProtocolVersion;
  if (send(3, &message, sizeof message, 0) != sizeof message) Fail("hello");
  int fds[3];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)];
  iovec part{&message, sizeof message};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (recvmsg(3, &header, 0) != sizeof message) Fail("init");
  std::memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof fds);
  void* shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
  if (shared == MAP_FAILED) Fail("mmap");
  machine.shared = static_cast<Shared*>(shared);
  machine.doorbell = fds[2];
}

// What the shim answers: every register of the call is in it.
uint64_t Expected(uint64_t id, uint64_t call) { return id * 1000003 + call * 7 + id; }

void Run(Vcpu& vcpu, uint64_t calls) {
  auto& hcall = vcpu.run->xen.u.hcall;
  for (uint64_t call = 0; call < calls; call++) {
    hcall.input = 7;
    hcall.longmode = 1;
    hcall.params[0] = vcpu.id * 1000003ull;
    hcall.params[5] = call;
    PostHypercall(vcpu);
    while (!WaitForAnswer(vcpu)) {
    }
    if (hcall.result != Expected(vcpu.id, call)) {
      std::fprintf(stderr, "vCPU %u, call %lu: %lu\n", vcpu.id, call, static_cast<uint64_t>(hcall.result));
      std::exit(1);
    }
  }
}

}  // namespace

int main(int, char** argv) {
  const uint32_t threads = static_cast<uint32_t>(std::atoi(argv[1]));
  const uint64_t calls = static_cast<uint64_t>(std::atoll(argv[2]));
  Connect();
  for (uint32_t id = 0; id < threads; id++) {
    auto vcpu = std::make_unique<Vcpu>();
    vcpu->id = id;
    vcpu->fd = static_cast<int>(id);
    vcpu->run = static_cast<kvm_run*>(std::calloc(1, sizeof(kvm_run)));
    machine.vcpus.push_back(std::move(vcpu));
  }
  timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  std::vector<std::thread> running;
  for (auto& vcpu : machine.vcpus) running.emplace_back([&vcpu, calls] { Run(*vcpu, calls); });
  for (auto& thread : running) thread.join();
  clock_gettime(CLOCK_MONOTONIC, &end);
  const int64_t passed = (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec;
  std::printf("%ld\n", passed / static_cast<int64_t>(calls));
}
