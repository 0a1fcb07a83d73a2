// QEMU as the plugin meets it: a VM made with ioctl(), a run loop that carries out what exits say, and a PCI machine.
#pragma once
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/kvm_abi.h"

namespace harness {

struct Function {
  std::array<uint8_t, 4096> config{};
  uint32_t Word(unsigned reg) const;
  void SetWord(unsigned reg, uint32_t value);
};

struct PortAccess {
  bool write;
  uint16_t port;
  unsigned size;
  uint32_t value;
};

class Qemu {
 public:
  // Connects a shim and makes a VM with so many vCPUs.
  explicit Qemu(unsigned vcpus = 1, int xen_capabilities = 0xff, uint64_t any = 0);

  int vm = -1;
  std::vector<int> vcpus;
  std::map<unsigned, Function> pci;  // by bus << 8 | device << 3 | function
  uint32_t cf8 = 0;
  uint64_t ecam = 0;                 // q35's PCIEXBAR register is followed if it is set
  std::vector<PortAccess> others;    // accesses to ports that are not PCI's
  unsigned exits = 0;                // handled by QEMU
  unsigned most = 200'000;           // in one Go()

  Function& Add(unsigned bus, unsigned device, unsigned function, uint32_t id, uint32_t class_code,
                uint8_t header = 0);
  void AddBridge(unsigned bus, unsigned device, unsigned function, uint8_t secondary, uint8_t header = 1);

  // QEMU's loop of a vCPU, until KVM_RUN is interrupted. False if an exit ended the machine: `last_exit` is its reason.
  bool Go(unsigned vcpu = 0);
  uint32_t last_exit = 0;

  // One instruction of the guest, carried out by the plugin and QEMU between them.
  uint32_t In(uint16_t port, unsigned size, unsigned vcpu = 0);
  void Out(uint16_t port, unsigned size, uint32_t value, unsigned vcpu = 0);
  std::vector<uint32_t> StringIn(uint16_t port, unsigned size, unsigned count);
  void StringOut(uint16_t port, unsigned size, const std::vector<uint32_t>& values);
  uint64_t Load(uint64_t gpa, unsigned size);
  void Store(uint64_t gpa, unsigned size, uint64_t value);
  // Configuration mechanism 1, as firmware uses it.
  uint32_t Read(unsigned bus, unsigned device, unsigned function, unsigned reg, unsigned size = 4);
  void Write(unsigned bus, unsigned device, unsigned function, unsigned reg, unsigned size, uint32_t value);
  bool Finds(unsigned bus, unsigned device, unsigned function);

  // KVM_SET_SREGS as after a reset of the machine, or with other registers.
  void SetSregs(unsigned vcpu, uint16_t selector = 0xf000, uint64_t base = 0xffff0000, uint64_t cr0 = 0x60000010);

 private:
  bool Handle(kvm_run& run);
  uint32_t Config(bool write, unsigned bdf, unsigned reg, unsigned size, uint32_t value);
};

}  // namespace harness
