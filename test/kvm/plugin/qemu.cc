#include "qemu.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "harness.h"
#include "kernel.h"
#include "shim.h"

namespace harness {

uint32_t Function::Word(unsigned reg) const {
  uint32_t value;
  std::memcpy(&value, config.data() + reg, sizeof value);
  return value;
}

void Function::SetWord(unsigned reg, uint32_t value) { std::memcpy(config.data() + reg, &value, sizeof value); }

Qemu::Qemu(unsigned count, int xen_capabilities, uint64_t any) {
  kernel.capabilities = {{KVM_CAP_XEN_HVM, xen_capabilities}, {KVM_CAP_NR_MEMSLOTS, 509},
                         {KVM_CAP_IRQ_ROUTING, 4096},         {KVM_CAP_COALESCED_PIO, 1},
                         {KVM_CAP_COALESCED_MMIO, 1},         {KVM_CAP_X86_USER_SPACE_MSR, 1},
                         {KVM_CAP_X86_MSR_FILTER, 1},         {KVM_CAP_SIGNAL_MSI, 1},
                         {KVM_CAP_ADJUST_CLOCK, 1}};
  OfferShim(8, 0x4'0012, any);
  vm = ioctl(kKvmFd, KVM_CREATE_VM, 0UL);
  CHECK(vm >= 0);
  for (unsigned i = 0; i < count; i++) {
    vcpus.push_back(ioctl(vm, KVM_CREATE_VCPU, static_cast<unsigned long>(2 * i)));
    CHECK(vcpus.back() >= 0);
  }
}

Function& Qemu::Add(unsigned bus, unsigned device, unsigned function, uint32_t id, uint32_t class_code,
                    uint8_t header) {
  Function& made = pci[bus << 8 | device << 3 | function];
  made.SetWord(0, id);
  made.SetWord(8, class_code << 16);
  made.config[0x0e] = header;
  return made;
}

void Qemu::AddBridge(unsigned bus, unsigned device, unsigned function, uint8_t secondary, uint8_t header) {
  Function& bridge = Add(bus, device, function, 0x000c1b36, 0x0604, header);
  bridge.SetWord(0x18, bus | uint32_t{secondary} << 8 | uint32_t{secondary} << 16);
}

uint32_t Qemu::Config(bool write, unsigned bdf, unsigned reg, unsigned size, uint32_t value) {
  const auto found = pci.find(bdf);
  if (found == pci.end() || reg + size > 4096) return ~0u;
  uint8_t* at = found->second.config.data() + reg;
  if (write) {
    std::memcpy(at, &value, size);
    if (bdf == 0 && found->second.Word(0) == 0x29c08086)
      ecam = found->second.Word(0x60) | uint64_t{found->second.Word(0x64)} << 32;
    return 0;
  }
  value = 0;
  std::memcpy(&value, at, size);
  return value;
}

bool Qemu::Handle(kvm_run& run) {
  exits++;
  if (run.exit_reason == KVM_EXIT_IO) {
    auto* data = reinterpret_cast<uint8_t*>(&run) + run.io.data_offset;
    const bool write = run.io.direction == KVM_EXIT_IO_OUT;
    const unsigned size = run.io.size, port = run.io.port;
    for (unsigned i = 0; i < run.io.count; i++, data += size) {
      uint32_t value = 0;
      std::memcpy(&value, data, size);
      if (port == 0xcf8 && size == 4) {
        if (write) cf8 = value;
        value = cf8;
      } else if (port >= 0xcfc && port <= 0xcff) {
        const uint32_t read = (cf8 & 0x80000000u) == 0
                                  ? ~0u
                                  : Config(write, cf8 >> 8 & 0xffff, (cf8 & 0xfc) + (port - 0xcfc), size, value);
        if (!write) value = read;
      } else {
        others.push_back({write, run.io.port, size, value});
        if (!write) value = 0xa5a5a5a5;
      }
      if (!write) std::memcpy(data, &value, size);
    }
    return true;
  }
  if (run.exit_reason == KVM_EXIT_MMIO) {
    auto& mmio = run.mmio;
    uint32_t value = 0;
    std::memcpy(&value, mmio.data, mmio.len > 4 ? 4 : mmio.len);
    const uint64_t window = (ecam & 6) == 0 ? 0x10000000 : (ecam & 6) == 2 ? 0x8000000 : 0x4000000;
    const uint64_t base = ecam & ~(window - 1);
    if ((ecam & 1) != 0 && mmio.phys_addr >= base && mmio.phys_addr < base + window) {
      const uint64_t offset = mmio.phys_addr - base;
      value = Config(mmio.is_write != 0, static_cast<unsigned>(offset >> 12), offset & 0xfff, mmio.len, value);
    } else {
      value = 0x5a5a5a5a;
    }
    if (mmio.is_write == 0) {
      std::memset(mmio.data, 0x5a, sizeof mmio.data);
      std::memcpy(mmio.data, &value, mmio.len > 4 ? 4 : mmio.len);
    }
    return true;
  }
  return false;
}

bool Qemu::Go(unsigned vcpu) {
  kvm_run& run = *kernel.vcpus[vcpus[vcpu]].run;
  for (unsigned handled = 0;; handled++) {
    if (handled > most) {
      std::fprintf(stderr, "endless: %u exits\n", handled);
      std::_Exit(1);
    }
    if (ioctl(vcpus[vcpu], KVM_RUN, 0UL) < 0) {
      CHECK(errno == EINTR);
      run.immediate_exit = 0;
      return true;
    }
    last_exit = run.exit_reason;
    if (!Handle(run)) return false;
  }
}

namespace {

Exit PortExit(bool write, uint16_t port, unsigned size, const std::vector<uint32_t>& values) {
  return [=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
    run.io.size = static_cast<uint8_t>(size);
    run.io.port = port;
    run.io.count = static_cast<uint32_t>(values.size());
    run.io.data_offset = 4096;
    auto* data = reinterpret_cast<uint8_t*>(&run) + 4096;
    for (const uint32_t value : values) {
      std::memcpy(data, &value, size);
      data += size;
    }
  };
}

// What KVM takes from the run structure when a read is completed.
std::vector<uint32_t> Instruction(Qemu& qemu, unsigned vcpu, bool write, uint16_t port, unsigned size,
                                  const std::vector<uint32_t>& values) {
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[vcpu]];
  std::vector<uint32_t> answer;
  cpu.exits.push_back(PortExit(write, port, size, values));
  cpu.completed = [&](kvm_run& run) {
    CHECK(run.exit_reason == KVM_EXIT_IO && run.io.port == port && run.io.count == values.size());
    CHECK(run.io.size == size && run.io.data_offset == 4096);
    CHECK(run.io.direction == (write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN));
    const auto* data = reinterpret_cast<const uint8_t*>(&run) + 4096;
    for (size_t i = 0; i < values.size(); i++) {
      uint32_t value = 0;
      std::memcpy(&value, data + i * size, size);
      answer.push_back(value);
    }
  };
  // Interrupted before the instruction is done, QEMU comes back.
  for (int turns = 0; answer.empty(); turns++) CHECK(turns < 100 && qemu.Go(vcpu));
  cpu.completed = nullptr;
  return answer;
}

}  // namespace

uint32_t Qemu::In(uint16_t port, unsigned size, unsigned vcpu) {
  return Instruction(*this, vcpu, false, port, size, {0xdeadbeef})[0];
}

void Qemu::Out(uint16_t port, unsigned size, uint32_t value, unsigned vcpu) {
  Instruction(*this, vcpu, true, port, size, {value});
}

std::vector<uint32_t> Qemu::StringIn(uint16_t port, unsigned size, unsigned count) {
  return Instruction(*this, 0, false, port, size, std::vector<uint32_t>(count, 0xdeadbeef));
}

void Qemu::StringOut(uint16_t port, unsigned size, const std::vector<uint32_t>& values) {
  Instruction(*this, 0, true, port, size, values);
}

uint64_t Qemu::Load(uint64_t gpa, unsigned size) {
  KernelVcpu& cpu = kernel.vcpus[vcpus[0]];
  uint64_t answer = 0;
  cpu.exits.push_back([=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_MMIO;
    run.mmio.phys_addr = gpa;
    run.mmio.len = size;
    run.mmio.is_write = 0;
    std::memset(run.mmio.data, 0xcc, sizeof run.mmio.data);
  });
  cpu.completed = [&](kvm_run& run) { std::memcpy(&answer, run.mmio.data, size); };
  CHECK(Go());
  cpu.completed = nullptr;
  return answer;
}

void Qemu::Store(uint64_t gpa, unsigned size, uint64_t value) {
  kernel.vcpus[vcpus[0]].exits.push_back([=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_MMIO;
    run.mmio.phys_addr = gpa;
    run.mmio.len = size;
    run.mmio.is_write = 1;
    std::memcpy(run.mmio.data, &value, sizeof run.mmio.data);
  });
  CHECK(Go());
}

uint32_t Qemu::Read(unsigned bus, unsigned device, unsigned function, unsigned reg, unsigned size) {
  Out(0xcf8, 4, 0x80000000u | bus << 16 | device << 11 | function << 8 | (reg & 0xfc));
  return In(static_cast<uint16_t>(0xcfc + (reg & 3)), size);
}

void Qemu::Write(unsigned bus, unsigned device, unsigned function, unsigned reg, unsigned size, uint32_t value) {
  Out(0xcf8, 4, 0x80000000u | bus << 16 | device << 11 | function << 8 | (reg & 0xfc));
  Out(static_cast<uint16_t>(0xcfc + (reg & 3)), size, value);
}

bool Qemu::Finds(unsigned bus, unsigned device, unsigned function) {
  return Read(bus, device, function, 0) != ~0u;
}

void Qemu::SetSregs(unsigned vcpu, uint16_t selector, uint64_t base, uint64_t cr0) {
  kvm_sregs sregs{};
  sregs.cs.selector = selector;
  sregs.cs.base = base;
  sregs.cr0 = cr0;
  CHECK(ioctl(vcpus[vcpu], KVM_SET_SREGS, &sregs) == 0);
}

}  // namespace harness
