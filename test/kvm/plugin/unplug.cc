// The unplug protocol: ports 0x10..0x13 and the older one in the I/O BAR.
#include "harness.h"
#include "kernel.h"
#include "machines.h"
#include "shim.h"

using namespace harness;

namespace {

struct Present {
  bool disks, nics, nvme;
};

void Expect(Qemu& qemu, const Present& present) {
  EQUAL(qemu.Finds(0, 1, 1), present.disks);
  EQUAL(qemu.Finds(0, 4, 0), present.disks);
  EQUAL(qemu.Finds(0, 3, 0), present.nics);
  EQUAL(qemu.Finds(0, 5, 0), present.nics);
  EQUAL(qemu.Finds(1, 3, 0), present.nics);
  EQUAL(qemu.Finds(0, 6, 0), present.nvme);
  // Nothing else is ever touched.
  for (const auto& [device, function] : {std::pair{0, 0}, {1, 0}, {1, 3}, {2, 0}, {7, 0}, {8, 0}, {0x1e, 0}})
    CHECK(qemu.Finds(0, static_cast<unsigned>(device), static_cast<unsigned>(function)));
  CHECK(qemu.others.empty());
}

void EnableBar(Qemu& qemu) {
  qemu.Read(0, 0, 0, 0);
  qemu.Write(0, 0x1e, 0, 0x10, 4, 0xc000);
  qemu.Write(0, 0x1e, 0, 0x04, 2, 1);
}

// The order of a guest that keeps to the protocol.
void Unplug(Qemu& qemu, uint32_t mask) {
  qemu.Read(0, 0, 0, 0);
  EQUAL(qemu.In(0x10, 2), 0x49d2);
  EQUAL(qemu.In(0x12, 1), 1);
  qemu.Out(0x12, 2, 3);
  qemu.Out(0x10, 4, 0x60c00);
  EQUAL(qemu.In(0x10, 2), 0x49d2);
  qemu.Out(0x10, 2, mask);
}

}  // namespace

CASE(unplug_nothing) {
  Qemu qemu;
  MakePc(qemu);
  Unplug(qemu, 0);
  Expect(qemu, {true, true, true});
}

CASE(unplug_disks) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Add(0, 9, 0, 0x00601000, 0x0104);   // RAID
  qemu.Add(0, 10, 0, 0x00541000, 0x0107);  // SAS
  Unplug(qemu, 1);
  Expect(qemu, {false, true, true});
  CHECK(!qemu.Finds(0, 9, 0) && !qemu.Finds(0, 10, 0));
  // A hidden function takes no write and reads as all ones at any width.
  qemu.Write(0, 4, 0, 0x10, 4, 0x12345678);
  EQUAL(qemu.pci[4 << 3].Word(0x10), 0);
  EQUAL(qemu.Read(0, 4, 0, 0x0a, 2), 0xffff);
  EQUAL(qemu.Read(0, 4, 0, 0x0b, 1), 0xff);
}

CASE(unplug_nics) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Add(0, 9, 0, 0x00000001, 0x0280);
  Unplug(qemu, 2);
  Expect(qemu, {true, false, true});
  CHECK(!qemu.Finds(0, 9, 0));
}

CASE(unplug_nvme) {
  Qemu qemu;
  MakePc(qemu);
  Unplug(qemu, 8);
  Expect(qemu, {true, true, false});
}

CASE(unplug_auxiliary) {
  Qemu qemu;
  MakePc(qemu);
  Unplug(qemu, 4);
  Expect(qemu, {true, true, true});
  Unplug(qemu, 5);
  Expect(qemu, {false, true, true});
}

CASE(unplug_everything) {
  Qemu qemu;
  MakePc(qemu);
  Unplug(qemu, 0xffff);
  Expect(qemu, {false, false, false});
  const unsigned before = qemu.exits;
  Unplug(qemu, 0xffff);
  Unplug(qemu, 0xffff);
  CHECK(qemu.exits - before < 4000);
  Expect(qemu, {false, false, false});
}

CASE(unplug_q35) {
  Qemu qemu;
  MakeQ35(qemu);
  Unplug(qemu, 3);
  CHECK(!qemu.Finds(0, 0x1f, 2));
  CHECK(!qemu.Finds(1, 0, 0));
  CHECK(!qemu.Finds(2, 0, 0));  // behind a root port that is not function 0
  CHECK(qemu.Finds(0, 0x1f, 0) && qemu.Finds(0, 0x1f, 3) && qemu.Finds(0, 2, 0) && qemu.Finds(0, 2, 1));
  CHECK(qemu.Finds(0, 1, 0));
  qemu.Write(0, 0, 0, 0x60, 4, 0xb0000001);
  EQUAL(qemu.Load(0xb0000000u + (0x1f << 15 | 2 << 12), 4), ~0u);
  EQUAL(qemu.Load(0xb0000000u + (0x1f << 15 | 2 << 12), 8), ~uint64_t{0});
  EQUAL(qemu.Load(0xb0100000, 2), 0xffff);
  EQUAL(qemu.Load(0xb0000000u + (0x1f << 15), 4), 0x29188086);
}

CASE(unplug_out_of_order) {
  Qemu qemu;
  MakePc(qemu);
  // The very first thing the guest does, and only then who it is.
  qemu.Out(0x10, 2, 1);
  qemu.Out(0x10, 4, 0x60c00);
  qemu.Out(0x12, 2, 3);
  Expect(qemu, {false, true, true});
}

CASE(unplug_by_byte) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Read(0, 0, 0, 0);
  const unsigned before = qemu.exits;
  qemu.Out(0x10, 1, 0xff);
  qemu.Out(0x11, 1, 0xff);
  for (const char letter : {'h', 'i', '\n'}) qemu.Out(0x12, 1, static_cast<uint32_t>(letter));
  qemu.Out(0x13, 1, 0xff);
  qemu.Out(0x12, 4, 0xffff);
  qemu.Out(0x11, 2, 0xffff);
  EQUAL(qemu.exits, before);
  Expect(qemu, {true, true, true});
}

CASE(unplug_ports_read) {
  Qemu qemu;
  MakePc(qemu);
  EQUAL(qemu.In(0x10, 2), 0x49d2);
  EQUAL(qemu.In(0x12, 1), 1);
  EQUAL(qemu.exits, 0);
  for (const uint32_t magic : qemu.StringIn(0x10, 2, 2048)) EQUAL(magic, 0x49d2);
  for (const uint32_t version : qemu.StringIn(0x12, 1, 4096)) EQUAL(version, 1);
  EQUAL(qemu.exits, 0);
  // Neighbours are QEMU's: the DMA controller's first ports.
  EQUAL(qemu.In(0x0f, 1), 0xa5);
  EQUAL(qemu.In(0x14, 1), 0xa5);
  EQUAL(qemu.others.size(), 2);
}

CASE(unplug_string) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Read(0, 0, 0, 0);
  qemu.StringOut(0x10, 2, {1, 2});
  Expect(qemu, {false, false, true});
  qemu.most = 20'000'000;
  Heard(true);
  qemu.StringOut(0x10, 2, std::vector<uint32_t>(2048, 8));
  Expect(qemu, {false, false, false});
  EQUAL(Heard(true).size(), 1);
  // One survey each, and no more.
  const unsigned before = qemu.exits;
  qemu.StringOut(0x10, 2, {8});
  const unsigned survey = qemu.exits - before;
  qemu.StringOut(0x10, 2, {8, 8, 8});
  EQUAL(qemu.exits - before, 4 * survey);
}

CASE(unplug_is_interrupted) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Read(0, 0, 0, 0);
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.exits.push_back([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = KVM_EXIT_IO_OUT;
    run.io.size = 2;
    run.io.port = 0x10;
    run.io.count = 1;
    run.io.data_offset = 4096;
    *reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(&run) + 4096) = 3;
    run.immediate_exit = 1;
  });
  // QEMU wants its thread in the middle of the survey and gets it at once; the survey goes on afterwards.
  const unsigned before = qemu.exits;
  CHECK(qemu.Go());
  CHECK(qemu.exits - before < 5);
  CHECK(qemu.Go());
  Expect(qemu, {false, false, true});
}

CASE(unplug_looping_buses) {
  Qemu qemu;
  qemu.Add(0, 0, 0, 0x12378086, 0x0600);
  // Bridges that all name the same buses, as a guest can set them.
  for (unsigned device = 1; device < 0x1e; device++) qemu.AddBridge(0, device, 0, 1);
  for (unsigned device = 0; device < 32; device++) qemu.AddBridge(1, device, 0, device % 2 == 0 ? 2 : 1);
  for (unsigned device = 0; device < 32; device++) qemu.AddBridge(2, device, 0, device % 2 == 0 ? 255 : 0);
  qemu.Add(255, 31, 0, 0x100e8086, 0x0200);
  qemu.Read(0, 0, 0, 0);
  const unsigned before = qemu.exits;
  qemu.Out(0x10, 2, 2);
  CHECK(qemu.exits - before < 2000);
  CHECK(!qemu.Finds(255, 31, 0));
  CHECK(qemu.Finds(2, 31, 0));
}

CASE(unplug_other_vcpu) {
  Qemu qemu(2);
  MakePc(qemu);
  qemu.Out(0x10, 2, 1, 1);
  qemu.Out(0x10, 2, 2, 0);
  Expect(qemu, {false, false, true});
}

CASE(unplug_ended_by_reset) {
  Qemu qemu;
  MakePc(qemu);
  Unplug(qemu, 0xffff);
  qemu.Write(0, 0x1e, 0, 0x10, 4, 0xc000);
  qemu.SetSregs(0);
  kernel.vcpus[qemu.vcpus[0]].run->immediate_exit = 1;
  CHECK(qemu.Go());
  shared->slots[0].state = xenshim::kDone;
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10), 1);
  Expect(qemu, {true, true, true});
}

CASE(bar_both) {
  Qemu qemu;
  MakePc(qemu);
  EnableBar(qemu);
  qemu.Out(0xc004, 1, 1);
  Expect(qemu, {false, false, true});
}

CASE(bar_one) {
  Qemu qemu;
  MakePc(qemu);
  EnableBar(qemu);
  qemu.Out(0xc008, 1, 2);
  Expect(qemu, {true, false, true});
  qemu.Out(0xc008, 4, 1);
  Expect(qemu, {false, false, true});
}

CASE(bar_nonsense) {
  Qemu qemu;
  MakePc(qemu);
  EnableBar(qemu);
  const unsigned before = qemu.exits;
  for (const uint32_t value : {0u, 2u, 3u, 0xffu}) qemu.Out(0xc004, 1, value);
  for (const uint32_t value : {0u, 3u, 4u, 5u, 0xffu}) qemu.Out(0xc008, 1, value);
  for (const uint16_t offset : {0x00, 0x01, 0x05, 0x0c, 0xff}) qemu.Out(static_cast<uint16_t>(0xc000 + offset), 1, 1);
  EQUAL(qemu.exits, before);
  Expect(qemu, {true, true, true});
}

CASE(bar_moves) {
  Qemu qemu;
  MakePc(qemu);
  EnableBar(qemu);
  qemu.StringOut(0xc008, 1, {2, 1, 2});
  Expect(qemu, {false, false, true});
  EQUAL(qemu.StringIn(0xc000, 4, 3).size(), 3);
  EQUAL(qemu.others.size(), 0);
  qemu.Write(0, 0x1e, 0, 0x10, 4, 0xd000);
  qemu.In(0xc000, 4);
  EQUAL(qemu.others.size(), 1);
  qemu.In(0xd0ff, 1);
  EQUAL(qemu.others.size(), 1);
  qemu.In(0xd100, 1);
  EQUAL(qemu.others.size(), 2);
  qemu.Write(0, 0x1e, 0, 0x04, 2, 0);  // I/O off
  qemu.In(0xd000, 1);
  EQUAL(qemu.others.size(), 3);
  // A BAR never assigned, or above the ports there are, is nowhere.
  qemu.Write(0, 0x1e, 0, 0x04, 2, 1);
  qemu.Write(0, 0x1e, 0, 0x10, 4, ~0u);
  qemu.In(0xff04, 1);
  EQUAL(qemu.others.size(), 4);
  qemu.Write(0, 0x1e, 0, 0x10, 4, 0);
  qemu.In(0x04, 1);
  EQUAL(qemu.others.size(), 5);
}
