// A KVM without Xen's interfaces: what the plugin does in its place.
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "harness.h"
#include "kernel.h"
#include "plugin/any/msr_filter.h"
#include "plugin/any/stubs.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;
using namespace xenshim::any;
using Bytes = std::vector<uint8_t>;

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kAnyBits = 0x37;
constexpr uint64_t kText = 2 * kMiB, kStubs = 5 * kMiB + 0x4f0;
constexpr uint64_t kSharedInfo = 0x10000, kVcpuInfo = 0x200040;
constexpr uint64_t kLma = 1 << 10;

// Two stubs `distance` apart, each ending in `tail` or in a jump to one place.
Bytes Stubs(size_t distance, bool endbr, bool jumps) {
  Bytes text(96, 0x90);
  for (size_t at = 0; at <= distance; at += distance) {
    size_t i = at;
    if (endbr)
      for (const uint8_t byte : {0xf3, 0x0f, 0x1e, 0xfa}) text[i++] = byte;
    for (const uint8_t byte : {0x0f, 0x01, at == 0 ? 0xd9 : 0xc1}) text[i++] = byte;
    if (jumps) {
      const auto rel = static_cast<int32_t>(0x154f4 - static_cast<int32_t>(i + 5));
      text[i] = 0xe9;
      std::memcpy(&text[i + 1], &rel, sizeof rel);
      i += 5;
      // What assemblers pad with.
      if (i % 16 <= 12 && distance == 32)
        for (const uint8_t byte : {0x0f, 0x1f, 0x40, 0x00}) text[i++] = byte;
    } else {
      text[i++] = 0xc3;
      text[i++] = 0xcc;
    }
  }
  return text;
}

struct Any : Qemu {
  int fd;
  uint8_t* ram;
  explicit Any(unsigned count = 1) : Qemu(count, 0, kAnyBits) {
    fd = memfd_create("ram", 0);
    CHECK(ftruncate(fd, 16 * kMiB) == 0);
    ram = static_cast<uint8_t*>(mmap(nullptr, 16 * kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    kvm_userspace_memory_region region{0, 0, 0, 16 * kMiB, reinterpret_cast<uint64_t>(ram)};
    CHECK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
    for (unsigned i = 0; i < count; i++) {
      auto& system = cpu(i).system;
      system.cs.l = 1;
      system.efer = 0x500;
    }
  }

  KernelVcpu& cpu(unsigned i = 0) { return kernel.vcpus[vcpus[i]]; }

  void Put(uint64_t at, const Bytes& bytes) { std::memcpy(ram + at, bytes.data(), bytes.size()); }

  // RDMSR or WRMSR of the guest as the filter hands it over; false if it went on to QEMU.
  bool Msr(uint32_t index, bool write, uint64_t& data, uint8_t& error) {
    cpu().exits.push_back([=, value = data](kvm_run& run) {
      run.exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
      run.msr.index = index;
      run.msr.reason = KVM_MSR_EXIT_REASON_FILTER;
      run.msr.data = value;
      run.msr.error = 0xee;
    });
    cpu().completed = [&](kvm_run& run) {
      data = run.msr.data;
      error = run.msr.error;
    };
    const bool ours = Go();
    cpu().completed = nullptr;
    return ours;
  }

  void ReadEfer(uint64_t rip = kText) {
    cpu().regs.rip = rip;
    uint64_t data = 0;
    uint8_t error = 1;
    CHECK(Msr(0xc0000080, false, data, error));
    EQUAL(error, 0);
    EQUAL(data, cpu().system.efer);
  }

  // `out kCallPort, al` at the address; true if it was taken for a hypercall.
  bool Call(uint64_t rip, std::vector<uint64_t> registers, unsigned i = 0) {
    auto& regs = cpu(i).regs;
    regs.rip = rip;
    registers.resize(4);
    regs.rax = registers[0];
    regs.rdi = registers[1];
    regs.rsi = registers[2];
    regs.rdx = registers[3];
    const size_t before = others.size();
    const uint64_t rax = regs.rax;
    cpu(i).exits.push_back([=](kvm_run& run) {
      run.exit_reason = KVM_EXIT_IO;
      run.io.direction = KVM_EXIT_IO_OUT;
      run.io.size = 1;
      run.io.port = kCallPort;
      run.io.count = 1;
      run.io.data_offset = 4096;
      reinterpret_cast<uint8_t*>(&run)[4096] = static_cast<uint8_t>(rax);
      // The shim takes its time, and QEMU wants its thread.
      run.immediate_exit = 1;
    });
    CHECK(Go(i));
    return others.size() == before;
  }

  void PlaceAreas() {
    EQUAL(Ask(xenshim::kSetSharedInfo, {kSharedInfo >> 12}).result, 0);
    EQUAL(Ask(xenshim::kSetVcpuInfo, {0, kVcpuInfo}).result, 0);
    EQUAL(Ask(xenshim::kSetUpcallVector, {0, 0xf3}).result, 0);
  }

  uint64_t Word(uint64_t at) {
    uint64_t value;
    std::memcpy(&value, ram + at, sizeof value);
    return value;
  }
};

size_t Messages() {
  std::lock_guard lock(kernel.messages_mutex);
  return kernel.messages.size();
}

template <typename F>
void Soon(F holds) {
  for (int i = 0; i < 5000 && !holds(); i++) usleep(1000);
  CHECK(holds());
}

std::string Said() {
  std::string all;
  for (const auto& message : Heard(true))
    if (message.op == xenshim::kLogLine) all += std::string(message.text) + "\n";
  return all;
}

// The machine ends as by a panic, and the line says why.
void Stopped(Any& qemu, const char* why) {
  std::string said;
  Soon([&] { return (said += Said()).find(why) != std::string::npos; });
  CHECK(!qemu.Go());
  EQUAL(qemu.last_exit, KVM_EXIT_SYSTEM_EVENT);
}

}  // namespace

CASE(any_stubs) {
  for (const size_t distance : {16, 32})
    for (const bool endbr : {false, true})
      for (const bool jumps : {false, true}) {
        const Bytes text = Stubs(distance, endbr, jumps);
        const auto found = StubsAt(text, 0);
        CHECK(found.has_value());
        EQUAL(found->amd, endbr ? 4 : 0);
        EQUAL(found->intel, found->amd + distance);
        Bytes image(4096, 0xcc);
        std::memcpy(image.data() + 1024, text.data(), text.size());
        EQUAL(FindStubs(image)->amd, 1024 + found->amd);
        CHECK(!FindStubs(image, 1040));
      }
}

CASE(any_lookalikes) {
  const Bytes good = Stubs(32, true, true);
  for (size_t i = 0; i < 44; i++) {
    Bytes bad = good;
    bad[i] ^= 0x15;
    if (i == 15) continue;
    // No byte of the pair, nor any between, may be another, but for the displacement of a no-op.
    CHECK(!StubsAt(bad, 0));
  }
  Bytes swapped = good;
  std::swap(swapped[6], swapped[38]);
  CHECK(!StubsAt(swapped, 0));
  Bytes call = Stubs(16, false, false);
  call[3] = 0xc2;  // ret with an operand
  CHECK(!StubsAt(call, 0));
  // Cut off at the end of what is known.
  for (size_t size = 0; size < 44; size++) CHECK(!StubsAt(std::span(good).first(size), 0));
  // A kvm_hypercall in the middle of a function.
  Bytes inlined(64, 0x48);
  for (const size_t at : {0, 16}) {
    inlined[at] = 0x0f;
    inlined[at + 1] = 0x01;
    inlined[at + 2] = at == 0 ? 0xd9 : 0xc1;
  }
  CHECK(!StubsAt(inlined, 0));
}

CASE(any_page) {
  Bytes page(4096, 0);
  FillHypercallPage(std::span<uint8_t, 4096>(page.data(), 4096));
  for (uint32_t number = 0; number < 128; number++) {
    const uint8_t* stub = page.data() + number * 32;
    const Bytes wanted = number == 23 ? Bytes{0x0f, 0x0b}
                                      : Bytes{0xb8, static_cast<uint8_t>(number), 0, 0, 0, 0xe6, kCallPort, 0xc3};
    CHECK(std::memcmp(stub, wanted.data(), wanted.size()) == 0);
    for (size_t i = wanted.size(); i < 32; i++) EQUAL(stub[i], 0xcc);
  }
}

CASE(any_filter) {
  Any qemu;
  // Before QEMU says anything.
  EQUAL(kernel.enabled.size(), 1);
  EQUAL(kernel.enabled[0].cap, KVM_CAP_X86_USER_SPACE_MSR);
  EQUAL(kernel.enabled[0].args[0], KVM_MSR_EXIT_REASON_FILTER);
  EQUAL(kernel.filters.size(), 1);
  EQUAL(kernel.filters[0].ranges[0].base, 0x40000000);
  EQUAL(kernel.filters[0].ranges[1].base, 0xc0000080);
  EQUAL(kernel.filters[0].ranges[1].flags, KVM_MSR_FILTER_READ);
  EQUAL(kernel.filters[0].ranges[2].nmsrs, 0);
  // QEMU's reasons and ranges are added to ours.
  kvm_enable_cap capability{};
  capability.cap = KVM_CAP_X86_USER_SPACE_MSR;
  capability.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN;
  CHECK(ioctl(qemu.vm, KVM_ENABLE_CAP, &capability) == 0);
  EQUAL(kernel.enabled[1].args[0], KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER);
  EQUAL(capability.args[0], KVM_MSR_EXIT_REASON_UNKNOWN);
  uint8_t bits[2] = {0xa5, 0x01};
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  filter.ranges[3] = {KVM_MSR_FILTER_READ, 9, 0x35, bits};
  CHECK(ioctl(qemu.vm, KVM_X86_SET_MSR_FILTER, &filter) == 0);
  const kvm_msr_filter& merged = kernel.filters.back();
  EQUAL(merged.flags, KVM_MSR_FILTER_DEFAULT_DENY);
  for (const int i : {0, 1}) EQUAL(merged.ranges[i].bitmap[0], 0);
  EQUAL(merged.ranges[2].base, 0x35);
  EQUAL(merged.ranges[2].nmsrs, 9);
  CHECK(std::memcmp(merged.ranges[2].bitmap, bits, 2) == 0);
  CHECK(merged.ranges[2].bitmap != bits);
  // An access that is QEMU's goes there as it is.
  uint64_t data = 7;
  uint8_t error = 0;
  CHECK(!qemu.Msr(0x35, false, data, error));
  EQUAL(qemu.last_exit, KVM_EXIT_X86_RDMSR);
}

CASE(any_filter_full) {
  kvm_msr_filter filter{};
  uint8_t bits = 0;
  for (int i = 0; i < 14; i++) filter.ranges[i] = {KVM_MSR_FILTER_READ, 1, static_cast<uint32_t>(i), &bits};
  CHECK(KeptFilter(filter).With({{1, 1}, {2, 1}}).has_value());
  filter.ranges[15] = {KVM_MSR_FILTER_READ, 1, 15, &bits};
  CHECK(!KeptFilter(filter).With({{1, 1}, {2, 1}}).has_value());
}

CASE(any_replace) {
  Any qemu(2);
  for (uint64_t i = kText; i < 8 * kMiB; i++) qemu.ram[i] = static_cast<uint8_t>(i * 7);
  // A kernel that is not unpacked yet has none.
  qemu.ReadEfer();
  qemu.Put(kStubs, Stubs(32, true, true));
  Bytes before(qemu.ram, qemu.ram + 16 * kMiB);
  qemu.ReadEfer();
  for (const uint64_t at : {kStubs + 4, kStubs + 36}) {
    EQUAL(qemu.ram[at], 0xe6);
    EQUAL(qemu.ram[at + 1], kCallPort);
    EQUAL(qemu.ram[at + 2], 0x90);
    std::memcpy(&before[at], qemu.ram + at, 3);
  }
  CHECK(std::memcmp(before.data(), qemu.ram, before.size()) == 0);
  // Other processors, and reads later on, change nothing.
  qemu.Put(7 * kMiB, Stubs(16, false, false));
  std::memcpy(&before[7 * kMiB], qemu.ram + 7 * kMiB, 96);
  qemu.ReadEfer();
  CHECK(std::memcmp(before.data(), qemu.ram, before.size()) == 0);
}

CASE(any_replace_twice) {
  Any qemu;
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.Put(kStubs + 0x1000, Stubs(16, true, true));
  const Bytes before(qemu.ram, qemu.ram + 16 * kMiB);
  qemu.ReadEfer(kStubs);
  CHECK(std::memcmp(before.data(), qemu.ram, before.size()) == 0);
  CHECK(Said().find("2 pairs") != std::string::npos);
}

CASE(any_kexec) {
  Any qemu;
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer(kStubs);
  qemu.PlaceAreas();
  EQUAL(Ask(xenshim::kSetSharedInfo, {xenshim::kNone}).result, 0);
  // The old kernel can still call.
  CHECK(qemu.Call(kStubs + 4, {17}));
  shared->slots[0].state = xenshim::kDone;
  qemu.Put(9 * kMiB, Stubs(16, false, false));
  qemu.ReadEfer(9 * kMiB);
  EQUAL(qemu.ram[9 * kMiB], 0xe6);
  EQUAL(qemu.ram[9 * kMiB + 16], 0xe6);
}

CASE(any_calls) {
  Any qemu;
  // Without stubs nothing is a hypercall.
  CHECK(!qemu.Call(kStubs + 4, {17, 1, 2, 3}));
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  auto& regs = qemu.cpu().regs;
  regs.r10 = 0x10;
  regs.r8 = 0x8;
  regs.r9 = 0x9;
  qemu.cpu().system.cr3 = 0x1234000;
  CHECK(qemu.Call(kStubs + 4, {0xffffffff00000011, 1, 2, 3}));
  auto& slot = shared->slots[0];
  EQUAL(slot.state.load(), xenshim::kRequest);
  EQUAL(slot.kind, xenshim::kSlotHypercall);
  EQUAL(slot.nr, 17);
  EQUAL(slot.long_mode, 1);
  EQUAL(slot.cr3, 0x1234000);
  const uint64_t wanted[] = {1, 2, 3, 0x10, 0x8, 0x9};
  CHECK(std::memcmp(slot.args, wanted, sizeof wanted) == 0);
  // QEMU may look at the registers meanwhile; the answer comes to what it leaves.
  regs.rbx = 0xb;
  slot.result = -38;
  slot.state = xenshim::kDone;
  CHECK(qemu.Go());
  EQUAL(regs.rax, static_cast<uint64_t>(-38));
  EQUAL(regs.rbx, 0xb);
  EQUAL(regs.rip, kStubs + 4);
  EQUAL(slot.state.load(), xenshim::kIdle);
  // KVM may report the instruction as done.
  CHECK(qemu.Call(kStubs + 36 + 2, {17}));
  slot.state = xenshim::kDone;
  CHECK(qemu.Go());
  // From elsewhere, and from a program.
  CHECK(!qemu.Call(kStubs + 8, {17}));
  qemu.cpu().system.ss.dpl = 3;
  CHECK(!qemu.Call(kStubs + 4, {17}));
  qemu.cpu().system.ss.dpl = 0;
  // Another width at the port, and the port next to it.
  qemu.cpu().regs.rip = kStubs + 4;
  const size_t others = qemu.others.size();
  qemu.Out(kCallPort, 4, 17);
  qemu.In(kCallPort, 1);
  qemu.Out(kCallPort + 1, 1, 17);
  EQUAL(qemu.others.size(), others + 3);
}

CASE(any_calls_32) {
  Any qemu;
  qemu.Put(kStubs, Stubs(16, false, false));
  qemu.ReadEfer();
  qemu.cpu().system.cs.l = 0;
  auto& regs = qemu.cpu().regs;
  regs.rbx = 0xf00000001;
  regs.rcx = 2;
  regs.rbp = 6;
  CHECK(qemu.Call(kStubs, {12, 0x55, 0x44, 3}));
  auto& slot = shared->slots[0];
  EQUAL(slot.long_mode, 0);
  const uint64_t wanted[] = {1, 2, 3, 0x44, 0x55, 6};
  CHECK(std::memcmp(slot.args, wanted, sizeof wanted) == 0);
}

CASE(any_hypercall_msr) {
  Any qemu;
  uint64_t data = 0x345000;
  uint8_t error = 1;
  CHECK(qemu.Msr(0x40000000, true, data, error));
  EQUAL(error, 0);
  EQUAL(qemu.ram[0x345000], 0xb8);
  CHECK(qemu.Call(0x345000 + 17 * 32 + 5, {17}));
  shared->slots[0].state = xenshim::kDone;
  CHECK(qemu.Go());
  CHECK(!qemu.Call(0x345000 + 17 * 32 + 8, {17}));
  const Bytes before(qemu.ram, qemu.ram + 16 * kMiB);
  for (const uint64_t bad : {uint64_t{16 * kMiB}, uint64_t{0x346001}, ~uint64_t{0} << 12}) {
    data = bad;
    error = 0;
    CHECK(qemu.Msr(0x40000000, true, data, error));
    EQUAL(error, 1);
    CHECK(Said().find("general protection fault") != std::string::npos);
  }
  CHECK(std::memcmp(before.data(), qemu.ram, before.size()) == 0);
  data = 99;
  CHECK(qemu.Msr(0x40000000, false, data, error));
  EQUAL(error, 0);
  EQUAL(data, 0);
}

CASE(any_events) {
  Any qemu(2);
  qemu.PlaceAreas();
  const auto raise = [](uint64_t port, uint64_t vcpu = 0) { Tell(xenshim::kRaise, {port, vcpu}); Ask(xenshim::kGetTime, {}); };
  raise(70);
  EQUAL(qemu.Word(kSharedInfo + 2048 + 8), uint64_t{1} << 6);
  EQUAL(qemu.Word(kVcpuInfo + 8), 2);
  EQUAL(qemu.ram[kVcpuInfo], 1);
  EQUAL(Messages(), 1);
  EQUAL(kernel.messages[0].data, 0xf3);
  EQUAL(kernel.messages[0].address_lo, 0xfee00000);
  raise(70);
  EQUAL(Messages(), 1);
  raise(71);  // told again, for the first interrupt may have met an APIC that was off
  EQUAL(Messages(), 2);
  EQUAL(qemu.Word(kSharedInfo + 2048 + 8), uint64_t{3} << 6);
  raise(130);
  EQUAL(Messages(), 3);
  // Masked: pending and no more.
  qemu.ram[kSharedInfo + 2560 + 32] = 1;
  raise(256);
  EQUAL(qemu.Word(kSharedInfo + 2048 + 32), 1);
  EQUAL(qemu.Word(kVcpuInfo + 8), 6);
  EQUAL(Messages(), 3);
  // A vCPU without a place: pending, and its interrupt comes when it has one.
  raise(300, 1);
  EQUAL(qemu.Word(kSharedInfo + 2048 + 32), uint64_t{1} | uint64_t{1} << 44);
  EQUAL(Messages(), 3);
  EQUAL(Ask(xenshim::kSetVcpuInfo, {1, kVcpuInfo + 64}).result, 0);
  EQUAL(Ask(xenshim::kSetUpcallVector, {1, 0x40}).result, 0);
  raise(301, 1);
  EQUAL(Messages(), 4);
  EQUAL(kernel.messages[3].address_lo, 0xfee02000);
  // What came before the vector is told with it.
  EQUAL(Ask(xenshim::kSetUpcallVector, {1, 0x41}).result, 0);
  EQUAL(Messages(), 5);
  EQUAL(kernel.messages[4].data, 0x41);
  // Ports that are none, and a 32-bit guest's words.
  raise(4096);
  raise(0);
  EQUAL(Messages(), 5);
  EQUAL(Ask(xenshim::kSetLongMode, {0}).result, 0);
  raise(1024);
  EQUAL(Messages(), 5);
  raise(33 + 64, 1);
  EQUAL(qemu.Word(kVcpuInfo + 64) >> 32, 1 << 3);
  EQUAL(Ask(xenshim::kSetSharedInfo, {0x10000}).result, static_cast<uint64_t>(-EINVAL));
}

CASE(any_sends) {
  Any qemu(2);
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  qemu.PlaceAreas();
  const int kick = eventfd(0, EFD_NONBLOCK), call = eventfd(0, EFD_NONBLOCK);
  EQUAL(Ask(xenshim::kRouteSend, {5, 1, 0, 0}, kick).result, 0);
  EQUAL(Ask(xenshim::kRouteSend, {6, 2, 9, 0}).result, 0);
  EQUAL(Ask(xenshim::kBindIrqfd, {77, 10, 0}, call).result, 0);
  const auto send = [&](uint32_t port) {
    std::memcpy(qemu.ram + 0x300000, &port, sizeof port);
    CHECK(qemu.Call(kStubs + 4, {32, 4, 0x300000}));
    return shared->slots[0].state.load() == xenshim::kIdle;
  };
  CHECK(send(5));
  EQUAL(qemu.cpu().regs.rax, 0);
  uint64_t count = 0;
  CHECK(read(kick, &count, sizeof count) == sizeof count && count == 1);
  CHECK(send(6));
  EQUAL(qemu.Word(kSharedInfo + 2048), 1 << 9);
  EQUAL(Messages(), 1);
  // A backend's event.
  qemu.ram[kVcpuInfo] = 0;
  std::memset(qemu.ram + kVcpuInfo + 8, 0, 8);
  count = 1;
  CHECK(write(call, &count, sizeof count) == sizeof count);
  Soon([] { return Messages() == 2; });
  EQUAL(qemu.Word(kSharedInfo + 2048), 3 << 9);
  EQUAL(Ask(xenshim::kMoveIrqfd, {77, 1}).result, 0);
  EQUAL(Ask(xenshim::kMoveIrqfd, {78, 1}).result, static_cast<uint64_t>(-ENOENT));
  EQUAL(Ask(xenshim::kUnbindIrqfd, {77}).result, 0);
  // A port without a route is the shim's, and so is an argument that cannot be read.
  EQUAL(Ask(xenshim::kRouteSend, {5, 0}).result, 0);
  CHECK(!send(5));
  shared->slots[0].state = xenshim::kDone;
  CHECK(qemu.Go());
  CHECK(qemu.Call(kStubs + 4, {32, 4, uint64_t{1} << 50}));
  EQUAL(shared->slots[0].state.load(), xenshim::kRequest);
}

CASE(any_timers) {
  Any qemu;
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  qemu.PlaceAreas();
  const auto arm = [&](uint64_t deadline) {
    std::memcpy(qemu.ram + 0x300000, &deadline, sizeof deadline);
    CHECK(qemu.Call(kStubs + 4, {24, 8, 0, 0x300000}));
    const bool done = shared->slots[0].state.load() == xenshim::kIdle;
    if (!done) {
      shared->slots[0].state = xenshim::kDone;
      CHECK(qemu.Go());
    }
    return done;
  };
  const auto rung = [&] { return (qemu.Word(kSharedInfo + 2048) & 8) != 0; };
  // The shim's as long as it says no port.
  CHECK(!arm(kernel.clock - 1));
  EQUAL(Ask(xenshim::kSetTimer, {0, 3, 0}).result, 0);
  CHECK(arm(kernel.clock - 1));
  CHECK(rung());
  std::memset(qemu.ram + kSharedInfo + 2048, 0, 8);
  CHECK(arm(kernel.clock + 30'000'000));
  CHECK(!rung());
  Soon(rung);
  std::memset(qemu.ram + kSharedInfo + 2048, 0, 8);
  CHECK(arm(kernel.clock + 30'000'000));
  CHECK(qemu.Call(kStubs + 4, {24, 9, 0}));
  EQUAL(shared->slots[0].state.load(), xenshim::kIdle);
  usleep(60'000);
  CHECK(!rung());
  // A vCPU's clock may be behind the machine's: what is late there is early here.
  const uint32_t time[8] = {2, 0, 1000, 0, static_cast<uint32_t>(kernel.clock) - 50'000'000, 0, 0x80000000, 1};
  std::memcpy(qemu.ram + kVcpuInfo + 32, time, sizeof time);
  qemu.cpu().tsc = 1000 + 20'000'000;  // 20 ms on, at 1 ns a cycle
  std::memset(qemu.ram + kSharedInfo + 2048, 0, 8);
  CHECK(arm(kernel.clock - 30'000'000));
  CHECK(rung());
  std::memset(qemu.ram + kSharedInfo + 2048, 0, 8);
  CHECK(arm(kernel.clock - 10'000'000));
  CHECK(!rung());
  Soon(rung);
  std::memset(qemu.ram + kVcpuInfo + 32, 0, 32);
  std::memset(qemu.ram + kSharedInfo + 2048, 0, 8);
  // By its other name; absurd times are the shim's to judge.
  CHECK(qemu.Call(kStubs + 4, {15, kernel.clock - 5}));
  CHECK(rung());
  CHECK(qemu.Call(kStubs + 4, {15, ~uint64_t{0}}));
  EQUAL(shared->slots[0].state.load(), xenshim::kRequest);
}

CASE(any_clock) {
  Any qemu;
  EQUAL(Ask(xenshim::kSetSharedInfo, {kSharedInfo >> 12}).result, 0);
  uint32_t clock[4];
  std::memcpy(clock, qemu.ram + kSharedInfo + 3072, sizeof clock);
  EQUAL(clock[0], 2);  // even, and not 0
  const auto began = static_cast<uint64_t>(time(nullptr)) - 1;
  CHECK(clock[1] >= began - 2 && clock[1] <= began + 2);
  EQUAL(clock[3], 0);
  EQUAL(Ask(xenshim::kSetVcpuInfo, {0, kVcpuInfo}).result, 0);
  EQUAL(qemu.cpu().msrs.back().index, 0x4b564d01);
  EQUAL(qemu.cpu().msrs.back().data, kVcpuInfo + 32 + 1);
  // Before a processor starts it gets an INIT, and KVM forgets; the processor reads EFER then.
  qemu.cpu().msrs.clear();
  qemu.ReadEfer();
  EQUAL(qemu.cpu().msrs.size(), 1);
  EQUAL(qemu.cpu().msrs.back().data, kVcpuInfo + 32 + 1);
  EQUAL(Ask(xenshim::kSetVcpuInfo, {0, xenshim::kNone}).result, 0);
  EQUAL(qemu.cpu().msrs.back().data, 0);
  qemu.cpu().msrs.clear();
  qemu.ReadEfer();
  EQUAL(qemu.cpu().msrs.size(), 0);
  // One time a vCPU; a runstate area is written once.
  CHECK(Ask(xenshim::kSetVcpuTimeInfo, {0, 0x5000}).result != 0);
  std::memset(qemu.ram + 0x5ff0, 0xff, 64);
  EQUAL(Ask(xenshim::kSetRunstateArea, {0, 0x5ff0}).result, 0);
  EQUAL(qemu.Word(0x5ff0), 0);
  EQUAL(qemu.Word(0x5ff8), kernel.clock);
  EQUAL(qemu.Word(0x6018), 0);
  EQUAL(qemu.Word(0x6020), ~uint64_t{0});
}

CASE(any_reset) {
  Any qemu;
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  qemu.PlaceAreas();
  const int call = eventfd(0, EFD_NONBLOCK);
  EQUAL(Ask(xenshim::kBindIrqfd, {77, 10, 0}, call).result, 0);
  qemu.SetSregs(0);
  EQUAL(qemu.cpu().msrs.back().data, 0);
  const uint64_t one = 1;
  CHECK(write(call, &one, sizeof one) == sizeof one);
  usleep(20'000);
  EQUAL(qemu.Word(kSharedInfo + 2048), 0);
  CHECK(Ask(xenshim::kMoveIrqfd, {77, 0}).result != 0);
  // The vCPU waits until the shim has let go.
  qemu.cpu().run->immediate_exit = 1;
  CHECK(qemu.Go());
  shared->slots[0].state = xenshim::kDone;
  CHECK(!qemu.Call(kStubs + 4, {17}));
  // The next kernel, in the same place.
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  EQUAL(qemu.ram[kStubs + 4], 0xe6);
  // Hypercalls through KVM's Xen interfaces were never asked for.
  EQUAL(kernel.configs.size(), 0);
  EQUAL(kernel.attributes.size(), 0);
}

CASE(any_restored) {
  Any qemu;
  qemu.Put(kStubs, Stubs(32, true, true));
  qemu.ReadEfer();
  qemu.Put(kStubs, Stubs(32, true, true));
  Stopped(qemu, "put back");
}

CASE(any_dead) {
  Any qemu;
  qemu.ReadEfer();
  qemu.cpu().mp_state = KVM_MP_STATE_HALTED;
  qemu.cpu().regs.rflags = 2;
  Stopped(qemu, "before its first hypercall");
}

CASE(any_global_vector) {
  Any qemu;
  CHECK(Ask(xenshim::kSetCallbackVector, {0}).result == 0);
  CHECK(Ask(xenshim::kSetCallbackVector, {0xf3}).result != 0);
  Stopped(qemu, "one vector");
}
