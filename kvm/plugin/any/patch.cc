#include "plugin/any/patch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <mutex>
#include <optional>
#include <vector>

#include "plugin/any/stubs.h"
#include "plugin/log.h"
#include "plugin/ram.h"

namespace xenshim::any {
namespace {

// How far from the kernel's entry its stubs may be: text of a distribution's kernel takes 16 to 20 MiB.
constexpr uint64_t kReach = 64 << 20;
constexpr size_t kPage = 4096;

struct Replaced {
  uint64_t amd, intel;  // guest-physical
};

std::mutex mutex;
std::optional<Replaced> replaced;
bool other_expected = false;
unsigned looks = 0;

struct Found {
  uint64_t gpa;
  StubPair pair;  // offsets from `host`
  uint8_t* host;
  size_t size;
};

// Pages that the guest has never touched hold no code, and looking at them would make the host allocate them.
void Search(const RamSpan& span, std::vector<Found>& found) {
  const size_t pages = span.size / kPage;
  std::vector<unsigned char> resident(pages);
  if (mincore(span.host, pages * kPage, resident.data()) != 0) return;
  for (size_t first = 0; first < pages;) {
    if ((resident[first] & 1) == 0) {
      first++;
      continue;
    }
    size_t end = first;
    while (end < pages && (resident[end] & 1) != 0) end++;
    uint8_t* host = span.host + first * kPage;
    const size_t size = (end - first) * kPage;
    const std::span<const uint8_t> text(host, size);
    for (auto pair = FindStubs(text); pair; pair = FindStubs(text, (pair->intel | 15) + 1))
      found.push_back({span.gpa + first * kPage, *pair, host, size});
    first = end;
  }
}

Instruction At(uint64_t gpa) {
  const uint8_t* host = HostAddress(gpa, 4);
  return host == nullptr ? Instruction::kOther : InstructionAt({host, 4}, 0);
}

StubState StateLocked() {
  if (!replaced) return StubState::kNone;
  const Instruction amd = At(replaced->amd), intel = At(replaced->intel);
  if (amd == Instruction::kReplaced && intel == Instruction::kReplaced) return StubState::kInPlace;
  if (amd == Instruction::kOriginal || intel == Instruction::kOriginal) return StubState::kRestored;
  return StubState::kGone;
}

}  // namespace

void LookForStubs(Vcpu& vcpu, const kvm_sregs& sregs) {
  kvm_regs regs{};
  if (RealIoctl(vcpu.fd, KVM_GET_REGS, &regs) != 0) return;
  std::lock_guard lock(mutex);
  if (StateLocked() == StubState::kInPlace && !other_expected) return;
  kvm_translation translation{};
  translation.linear_address = sregs.cs.base + regs.rip;
  if (RealIoctl(vcpu.fd, KVM_TRANSLATE, &translation) != 0 || translation.valid == 0) return;
  const uint64_t entry = translation.physical_address & ~uint64_t{kPage - 1};
  std::vector<Found> found;
  for (const RamSpan& span : RamSpans(entry - std::min(entry, kReach), entry + kReach)) Search(span, found);
  if (found.empty()) {
    if (looks++ < 4) Log(Level::kDebug, "EFER read at %#" PRIx64 ": no Xen call stubs in this code", entry);
    return;
  }
  if (found.size() > 1) {
    if (looks++ < 4) Log(Level::kError, "%zu pairs of Xen call stubs in the guest's kernel, and it has but one: none replaced",
        found.size());
    return;
  }
  const Found& stubs = found.front();
  if (!Replace({stubs.host, stubs.size}, stubs.pair.amd) || !Replace({stubs.host, stubs.size}, stubs.pair.intel)) {
    Log(Level::kError, "the guest's Xen call stubs changed while they were looked at: not replaced");
    return;
  }
  other_expected = false;
  replaced = Replaced{stubs.gpa + stubs.pair.amd, stubs.gpa + stubs.pair.intel};
  Log(Level::kInfo, "Xen call stubs of the guest's kernel at %#" PRIx64 " and %#" PRIx64 " replaced in its memory",
      replaced->amd, replaced->intel);
}

void ExpectOtherStubs() {
  std::lock_guard lock(mutex);
  other_expected = true;
}

bool IsStubOffset(uint64_t offset) {
  std::lock_guard lock(mutex);
  return replaced && (offset == (replaced->amd & 0xfff) || offset == (replaced->intel & 0xfff));
}

bool StubsReplaced() {
  std::lock_guard lock(mutex);
  return replaced.has_value();
}

StubState LookAtStubs() {
  std::lock_guard lock(mutex);
  // The next kernel may lie where the last one did.
  return other_expected ? StubState::kNone : StateLocked();
}

void ForgetStubs() {
  std::lock_guard lock(mutex);
  replaced.reset();
  other_expected = false;
  looks = 0;
}

}  // namespace xenshim::any
