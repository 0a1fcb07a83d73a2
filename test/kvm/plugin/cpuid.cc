// The hypervisor leaves that a vCPU is given.
#include <cstring>
#include <sys/ioctl.h>

#include "harness.h"
#include "kernel.h"
#include "qemu.h"
#include "shim.h"

using namespace harness;

namespace {

using Entry = kvm_cpuid_entry2;

Entry Leaf(uint32_t function, uint32_t eax, const char* signature = "\0\0\0\0\0\0\0\0\0\0\0") {
  Entry entry{};
  entry.function = function;
  entry.eax = eax;
  std::memcpy(&entry.ebx, signature, 4);
  std::memcpy(&entry.ecx, signature + 4, 4);
  std::memcpy(&entry.edx, signature + 8, 4);
  return entry;
}

const std::vector<Entry>& Set(int fd, const std::vector<Entry>& entries) {
  std::vector<uint8_t> bytes(sizeof(xenshim::CpuidTable) + entries.size() * sizeof(Entry));
  auto* table = reinterpret_cast<xenshim::CpuidTable*>(bytes.data());
  table->nent = static_cast<uint32_t>(entries.size());
  std::memcpy(table->entries(), entries.data(), entries.size() * sizeof(Entry));
  const std::vector<uint8_t> before = bytes;
  CHECK(ioctl(fd, xenshim::kSetCpuid2, table) == 0);
  CHECK(bytes == before);
  return kernel.vcpus[fd].cpuid;
}

const Entry* Find(const std::vector<Entry>& entries, uint32_t function, uint32_t index = 0) {
  const Entry* found = nullptr;
  for (const Entry& entry : entries) {
    if (entry.function != function || entry.index != index) continue;
    CHECK(found == nullptr);
    found = &entry;
  }
  return found;
}

void ExpectXen(const std::vector<Entry>& entries, uint32_t base, uint32_t vcpu, bool upcall) {
  const Entry* leaf = Find(entries, base);
  CHECK(leaf != nullptr);
  EQUAL(leaf->eax, base + 5);
  CHECK(std::memcmp(&leaf->ebx, "XenVMMXenVMM", 12) == 0);
  EQUAL(Find(entries, base + 1)->eax, 0x40012);
  EQUAL(Find(entries, base + 2)->eax, 1);
  EQUAL(Find(entries, base + 2)->ebx, base == 0x40000000 ? 0x40000000 : 0x40000200);
  // The kernel looks for leaf 3 by index.
  for (uint32_t index = 0; index < 3; index++) EQUAL(Find(entries, base + 3, index)->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
  EQUAL(Find(entries, base + 4)->eax, upcall ? 0x58 : 0x18);
  EQUAL(Find(entries, base + 4)->ebx, vcpu);
  CHECK(Find(entries, base + 5) != nullptr);
}

// Ordinary leaves of a processor, an indexed one among them.
std::vector<Entry> Processor() {
  std::vector<Entry> entries{Leaf(0, 0x16, "GenuntelineI"), Leaf(1, 0x806ea)};
  for (uint32_t index = 0; index < 4; index++) {
    entries.push_back(Leaf(4, 0x121 + index));
    entries.back().index = index;
    entries.back().flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  }
  entries.push_back(Leaf(0x80000000, 0x80000008));
  return entries;
}

void ExpectKept(const std::vector<Entry>& given, const std::vector<Entry>& kept) {
  for (size_t i = 0; i < kept.size(); i++) CHECK(std::memcmp(&given[i], &kept[i], sizeof(Entry)) == 0);
}

}  // namespace

CASE(cpuid_kvm_replaced) {
  Qemu qemu(2);
  auto wanted = Processor();
  wanted.push_back(Leaf(0x40000000, 0x40000001, "KVMKVMKVM\0\0"));
  wanted.push_back(Leaf(0x40000001, 0x01007efb));
  wanted.push_back(Leaf(0x40000010, 2'000'000));
  for (uint32_t id = 0; id < 2; id++) {
    const auto& entries = Set(qemu.vcpus[id], wanted);
    ExpectXen(entries, 0x40000000, id, true);
    ExpectKept(entries, Processor());
    EQUAL(entries.size(), Processor().size() + 8);
  }
  EQUAL(kernel.configs.size(), 1);
  EQUAL(kernel.configs[0].msr, 0x40000000);
}

CASE(cpuid_hyperv_kept) {
  Qemu qemu;
  auto wanted = Processor();
  wanted.push_back(Leaf(0x40000000, 0x40000005, "Microsoft Hv"));
  for (uint32_t leaf = 1; leaf <= 5; leaf++) wanted.push_back(Leaf(0x40000000 + leaf, leaf * 3));
  const auto kept = wanted;
  wanted.push_back(Leaf(0x40000100, 0x40000101, "KVMKVMKVM\0\0"));
  wanted.push_back(Leaf(0x40000101, 0x01007efb));
  const auto& entries = Set(qemu.vcpus[0], wanted);
  ExpectKept(entries, kept);
  ExpectXen(entries, 0x40000100, 0, true);
  EQUAL(entries.size(), kept.size() + 8);
  // The hypercall page's MSR moves out of Hyper-V's way.
  EQUAL(kernel.configs.back().msr, 0x40000200);
}

CASE(poll_left_to_the_shim) {
  Qemu qemu;
  constexpr uint32_t kEvents = KVM_XEN_HVM_CONFIG_EVTCHN_SEND;
  EQUAL(kernel.configs.back().flags, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | kEvents);
  Ask(xenshim::kSetKernelPoll, {0});
  EQUAL(kernel.configs.back().flags, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL);
  EQUAL(kernel.configs.back().msr, 0x40000000);
  Ask(xenshim::kSetKernelPoll, {1});
  EQUAL(kernel.configs.back().flags, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | kEvents);
}

CASE(cpuid_older_kernel) {
  Qemu qemu(1, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | KVM_XEN_HVM_CONFIG_SHARED_INFO);
  ExpectXen(Set(qemu.vcpus[0], Processor()), 0x40000000, 0, false);
  EQUAL(kernel.configs[0].flags, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL);
  EQUAL(kernel.vcpus[qemu.vcpus[0]].attributes.size(), 0);
}

CASE(cpuid_many) {
  Qemu qemu;
  std::vector<Entry> wanted;
  for (uint32_t index = 0; index < 2000; index++) {
    wanted.push_back(Leaf(0x80000000 + index, index));
  }
  const auto& entries = Set(qemu.vcpus[0], wanted);
  EQUAL(entries.size(), wanted.size() + 8);
  ExpectKept(entries, wanted);
}

CASE(cpuid_refused) {
  Qemu qemu;
  kernel.refuse = xenshim::kSetCpuid2;
  kernel.refusal = E2BIG;
  xenshim::CpuidTable none{};
  CHECK(ioctl(qemu.vcpus[0], xenshim::kSetCpuid2, &none) == -1);
  EQUAL(errno, E2BIG);
}
