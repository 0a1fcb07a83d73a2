#include "plugin/any/stubs.h"

#include <cstring>

namespace xenshim::any {
namespace {

constexpr uint8_t kVmmcall[] = {0x0f, 0x01, 0xd9};
constexpr uint8_t kVmcall[] = {0x0f, 0x01, 0xc1};
constexpr uint8_t kOut[] = {0xe6, kCallPort, 0x90};
constexpr uint8_t kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
constexpr uint8_t kRet = 0xc3, kInt3 = 0xcc, kJump = 0xe9;
constexpr size_t kLongest = 64;

template <size_t n>
bool Is(std::span<const uint8_t> text, size_t at, const uint8_t (&bytes)[n]) {
  return at + n <= text.size() && std::memcmp(text.data() + at, bytes, n) == 0;
}

// Length of the no-op at `at` in the forms assemblers pad with; 0 if it is none.
size_t NopLength(std::span<const uint8_t> text, size_t at) {
  size_t prefixes = 0;
  while (at + prefixes < text.size() && (text[at + prefixes] == 0x66 || text[at + prefixes] == 0x2e)) prefixes++;
  const auto rest = text.subspan(at + prefixes);
  if (rest.empty()) return 0;
  if (rest[0] == 0x90) return prefixes + 1;
  if (rest[0] == kInt3) return prefixes == 0 ? 1 : 0;
  if (rest.size() < 3 || rest[0] != 0x0f || rest[1] != 0x1f) return 0;
  switch (rest[2]) {
    case 0x00: return prefixes + 3;
    case 0x40: return prefixes + 4;
    case 0x44: return prefixes + 5;
    case 0x80: return prefixes + 7;
    case 0x84: return prefixes + 8;
    default: return 0;
  }
}

bool OnlyNops(std::span<const uint8_t> text, size_t from, size_t to) {
  while (from < to) {
    const size_t length = NopLength(text, from);
    if (length == 0) return false;
    from += length;
  }
  return from == to;
}

// A stub's call, and where its return leads: to itself for `ret`, or to the kernel's return thunk.
struct Stub {
  size_t call, end;
  uint64_t target;
};

template <size_t n>
std::optional<Stub> StubAt(std::span<const uint8_t> text, size_t at, const uint8_t (&instruction)[n]) {
  if (Is(text, at, kEndbr64)) at += sizeof kEndbr64;
  if (!Is(text, at, instruction)) return std::nullopt;
  const size_t after = at + n;
  if (after < text.size() && text[after] == kRet) return Stub{at, after + 1, 0};
  if (after + 5 > text.size() || text[after] != kJump) return std::nullopt;
  int32_t distance;
  std::memcpy(&distance, text.data() + after + 1, sizeof distance);
  return Stub{at, after + 5, after + 5 + static_cast<uint64_t>(static_cast<int64_t>(distance))};
}

}  // namespace

std::optional<StubPair> StubsAt(std::span<const uint8_t> text, size_t at) {
  const auto amd = StubAt(text, at, kVmmcall);
  if (!amd) return std::nullopt;
  for (const size_t distance : {16, 32}) {
    const auto intel = StubAt(text, at + distance, kVmcall);
    if (intel && intel->target == amd->target && intel->call - amd->call == distance &&
        OnlyNops(text, amd->end, at + distance))
      return StubPair{amd->call, intel->call};
  }
  return std::nullopt;
}

std::optional<StubPair> FindStubs(std::span<const uint8_t> text, size_t from) {
  // The first bytes of either form; everything else is left at one comparison.
  uint32_t endbr;
  std::memcpy(&endbr, kEndbr64, sizeof endbr);
  for (size_t at = from; at + kLongest <= text.size(); at += 16) {
    uint32_t word;
    std::memcpy(&word, text.data() + at, sizeof word);
    if (word != endbr && (word & 0xffffff) != 0xd9010f) continue;
    if (const auto found = StubsAt(text, at)) return found;
  }
  return std::nullopt;
}

Instruction InstructionAt(std::span<const uint8_t> text, size_t at) {
  if (Is(text, at, kOut)) return Instruction::kReplaced;
  return Is(text, at, kVmmcall) || Is(text, at, kVmcall) ? Instruction::kOriginal : Instruction::kOther;
}

bool Replace(std::span<uint8_t> text, size_t at) {
  if (InstructionAt(text, at) != Instruction::kOriginal || at % 4 != 0 || at + 4 > text.size()) return false;
  auto* word = reinterpret_cast<uint32_t*>(text.data() + at);
  uint32_t before = __atomic_load_n(word, __ATOMIC_RELAXED);
  uint32_t after = before;
  std::memcpy(&after, kOut, sizeof kOut);
  return __atomic_compare_exchange_n(word, &before, after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void FillHypercallPage(std::span<uint8_t, 4096> page) {
  // HYPERVISOR_iret has no use in an HVM guest; Xen makes it an invalid instruction, too.
  constexpr uint32_t kIret = 23;
  std::memset(page.data(), kInt3, page.size());
  for (uint32_t number = 0; number < 128; number++) {
    uint8_t* stub = page.data() + size_t{number} * 32;
    if (number == kIret) {
      stub[0] = 0x0f;
      stub[1] = 0x0b;
      continue;
    }
    stub[0] = 0xb8;  // mov eax, number
    std::memcpy(stub + 1, &number, sizeof number);
    stub[5] = 0xe6;
    stub[6] = kCallPort;
    stub[7] = kRet;
  }
}

}  // namespace xenshim::any
