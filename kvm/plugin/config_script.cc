#include <cstring>

#include "plugin/pci.h"

namespace xenshim {

uint32_t guest_cf8 = 0;

namespace {

// KVM keeps port data in the second page of the run structure.
constexpr uint64_t kDataOffset = 4096;

void ShowAccess(kvm_run& run, bool write, uint16_t port, uint32_t value) {
  run.exit_reason = KVM_EXIT_IO;
  run.io.direction = write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
  run.io.size = 4;
  run.io.port = port;
  run.io.count = 1;
  run.io.data_offset = kDataOffset;
  std::memcpy(reinterpret_cast<char*>(&run) + kDataOffset, &value, sizeof value);
}

}  // namespace

ConfigScript::ConfigScript(Vcpu& vcpu, Next next) : next_(std::move(next)), exit_reason_(vcpu.run->exit_reason) {
  std::memcpy(exit_, &vcpu.run->mmio, sizeof exit_);  // the union that holds the exit's details
  std::memcpy(data_, reinterpret_cast<char*>(vcpu.run) + kDataOffset, sizeof data_);
}

bool ConfigScript::Step(Vcpu& vcpu) {
  kvm_run& run = *vcpu.run;
  uint32_t value = 0;
  switch (phase_) {
    case Phase::kAddress:
      ShowAccess(run, false, 0xcfc, 0);
      phase_ = Phase::kData;
      return true;
    case Phase::kData:
      std::memcpy(&value, reinterpret_cast<char*>(&run) + kDataOffset, sizeof value);
      [[fallthrough]];
    case Phase::kStart:
      if (const auto address = next_(value)) {
        ShowAccess(run, true, 0xcf8, *address);
        phase_ = Phase::kAddress;
      } else {
        ShowAccess(run, true, 0xcf8, guest_cf8);
        phase_ = Phase::kRestore;
      }
      return true;
    case Phase::kRestore:
      break;
  }
  run.exit_reason = exit_reason_;
  std::memcpy(&run.mmio, exit_, sizeof exit_);
  std::memcpy(reinterpret_cast<char*>(&run) + kDataOffset, data_, sizeof data_);
  return false;
}

bool ContinueScript(Vcpu& vcpu) {
  if (vcpu.script->Step(vcpu)) return true;
  const uint32_t resume = vcpu.script->resume;
  vcpu.script.reset();
  // The guest's own access again, which can now be decided.
  return HandlePortIo(vcpu, resume) == IoVerdict::kQemus;
}

}  // namespace xenshim
