// Accesses to model-specific registers that KVM is to hand over: ours, before those QEMU has asked for.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "core/kvm_abi.h"

namespace xenshim::any {

struct OwnMsr {
  uint32_t index;
  uint32_t access;  // KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE
};

// A filter of QEMU's with its bitmaps kept: it hands over pointers that are its own.
class KeptFilter {
 public:
  KeptFilter() = default;
  explicit KeptFilter(const kvm_msr_filter& filter);
  // The filter with a range for each of `own` in front, since the first range that holds a register decides. Nothing if
  // there are more ranges than KVM takes. Its bitmaps live as long as this object.
  std::optional<kvm_msr_filter> With(const std::vector<OwnMsr>& own);

 private:
  kvm_msr_filter filter_{};
  std::vector<std::vector<uint8_t>> bitmaps_;
};

}  // namespace xenshim::any
