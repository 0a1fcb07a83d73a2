#include "plugin/any/msr_filter.h"

namespace xenshim::any {

KeptFilter::KeptFilter(const kvm_msr_filter& filter) : filter_(filter) {
  bitmaps_.reserve(KVM_MSR_FILTER_MAX_RANGES);
  for (auto& range : filter_.ranges) {
    if (range.nmsrs == 0 || range.bitmap == nullptr) continue;
    bitmaps_.emplace_back(range.bitmap, range.bitmap + (range.nmsrs + 7) / 8);
    range.bitmap = bitmaps_.back().data();
  }
}

std::optional<kvm_msr_filter> KeptFilter::With(const std::vector<OwnMsr>& own) {
  // A clear bit means: not in the kernel.
  static uint8_t none = 0;
  kvm_msr_filter merged{};
  merged.flags = filter_.flags;
  size_t n = 0;
  for (const OwnMsr& msr : own) {
    if (n == KVM_MSR_FILTER_MAX_RANGES) return std::nullopt;
    auto& range = merged.ranges[n++];
    range.flags = msr.access;
    range.nmsrs = 1;
    range.base = msr.index;
    range.bitmap = &none;
  }
  for (const auto& range : filter_.ranges) {
    if (range.nmsrs == 0) continue;
    if (n == KVM_MSR_FILTER_MAX_RANGES) return std::nullopt;
    merged.ranges[n++] = range;
  }
  return merged;
}

}  // namespace xenshim::any
