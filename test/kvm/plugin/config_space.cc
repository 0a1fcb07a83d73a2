// The platform device in configuration space, by ports and by q35's window.
#include "harness.h"
#include "kernel.h"
#include "machines.h"
#include "shim.h"

using namespace harness;

CASE(slot_found) {
  Qemu qemu;
  MakePc(qemu);
  // The guest's first access is answered by QEMU, though the search for a slot ran in the middle of it.
  EQUAL(qemu.Read(0, 0, 0, 0), 0x12378086);
  CHECK(qemu.exits > 5);
  EQUAL(qemu.In(0xcf8, 4), 0x80000000);
  EQUAL(qemu.cf8, 0x80000000);
  EQUAL(qemu.Read(0, 0x1e, 0, 0), kPlatformId);
  EQUAL(qemu.Read(0, 1, 1, 8) >> 16, 0x0101);
  EQUAL(qemu.Read(0, 0x1d, 0, 0), ~0u);
  CHECK(qemu.others.empty());
}

CASE(first_access_is_a_write) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Write(0, 2, 0, 0x3c, 1, 0x0b);
  EQUAL(qemu.pci[2 << 3].config[0x3c], 0x0b);
  EQUAL(qemu.pci[2 << 3].config[0x3d], 0);
}

CASE(first_access_is_a_part) {
  Qemu qemu;
  MakePc(qemu);
  EQUAL(qemu.Read(0, 1, 1, 0x0a, 2), 0x0101);
  EQUAL(qemu.Read(0, 1, 1, 0x0b, 1), 0x01);
}

CASE(first_access_is_a_string) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Out(0xcf8, 4, 0x80000000);
  const auto words = qemu.StringIn(0xcfc, 4, 100);
  for (const uint32_t word : words) EQUAL(word, 0x12378086);
}

CASE(slot_taken) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Add(0, 0x1e, 0, 0x10001af4, 0x0200);
  qemu.Add(0, 0x1d, 0, 0x10001af4, 0x0200);
  EQUAL(qemu.Read(0, 0x1c, 0, 0), kPlatformId);
  EQUAL(qemu.Read(0, 0x1d, 0, 0), 0x10001af4);
  EQUAL(qemu.Read(0, 0x1e, 0, 0), 0x10001af4);
}

CASE(no_slot) {
  Qemu qemu;
  qemu.Add(0, 0, 0, 0x12378086, 0x0600);
  for (unsigned device = 1; device < 32; device++) qemu.Add(0, device, 0, 0x10001af4, 0x0200);
  for (unsigned device = 1; device < 32; device++) EQUAL(qemu.Read(0, device, 0, 0), 0x10001af4);
  unsigned errors = 0;
  for (const auto& line : Heard(true)) errors += line.arg[0] == 50;
  EQUAL(errors, 1);
}

CASE(address_latch) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Out(0xcf8, 4, 0x80000000u | 0x1e << 11 | 0x08);
  EQUAL(qemu.In(0xcfc, 4), 0xff800001);
  EQUAL(qemu.In(0xcf8, 4), 0x80000000u | 0x1e << 11 | 0x08);
  // Not enabled: no configuration access at all.
  qemu.Out(0xcf8, 4, 0x1e << 11);
  EQUAL(qemu.In(0xcfc, 4), ~0u);
  // A byte to 0xcf9 is the reset port, not the latch.
  qemu.Out(0xcf8, 4, 0x80000000u | 0x1e << 11);
  qemu.Out(0xcf9, 1, 0x02);
  EQUAL(qemu.In(0xcfc, 4), kPlatformId);
  EQUAL(qemu.others.size(), 1);
  // A string leaves its last element there.
  qemu.StringOut(0xcf8, 4, {0x80000000u | 0x1e << 11, 0x80000000u | 2 << 11});
  EQUAL(qemu.In(0xcfc, 4), 0x11111234);
}

CASE(identity) {
  Qemu qemu;
  MakePc(qemu);
  EQUAL(qemu.Read(0, 0x1e, 0, 0, 2), 0x5853);
  EQUAL(qemu.Read(0, 0x1e, 0, 2, 2), 0x0001);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x0b, 1), 0xff);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x0a, 1), 0x80);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x08, 1), 0x01);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x0e, 1), 0x00);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x2c), kPlatformId);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x34, 1), 0x00);  // no capabilities
  EQUAL(qemu.Read(0, 0x1e, 0, 0x3d, 1), 0x01);
  for (unsigned function = 1; function < 8; function++) EQUAL(qemu.Read(0, 0x1e, function, 0), ~0u);
  // What is read only stays.
  for (unsigned reg : {0x00, 0x08, 0x0c, 0x18, 0x2c, 0x30, 0x34, 0xfc}) {
    const uint32_t before = qemu.Read(0, 0x1e, 0, reg);
    qemu.Write(0, 0x1e, 0, reg, 4, ~0u);
    EQUAL(qemu.Read(0, 0x1e, 0, reg), reg == 0x0c ? 0xffff : before);
  }
  // Past the end of the space with a wide access: nothing is read or written there.
  qemu.Out(0xcf8, 4, 0x80000000u | 0x1e << 11 | 0xfc);
  EQUAL(qemu.In(0xcff, 4), ~0u);
  qemu.Out(0xcff, 4, ~0u);
}

CASE(bar_sizing) {
  Qemu qemu;
  MakePc(qemu);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10), 0x00000001);
  qemu.Write(0, 0x1e, 0, 0x10, 4, ~0u);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10), 0xffffff01);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x14), 0x00000008);
  qemu.Write(0, 0x1e, 0, 0x14, 4, ~0u);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x14), 0xff000008);
  for (unsigned reg = 0x18; reg < 0x28; reg += 4) {
    qemu.Write(0, 0x1e, 0, reg, 4, ~0u);
    EQUAL(qemu.Read(0, 0x1e, 0, reg), 0);
  }
  qemu.Write(0, 0x1e, 0, 0x10, 4, 0xc000);
  qemu.Write(0, 0x1e, 0, 0x14, 4, 0xfd000000);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10), 0xc001);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x14), 0xfd000008);
  // By bytes and words.
  qemu.Write(0, 0x1e, 0, 0x11, 1, 0xd1);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10, 2), 0xd101);
  qemu.Write(0, 0x1e, 0, 0x16, 2, 0xfe55);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x17, 1), 0xfe);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x14), 0xfe000008);
  qemu.Write(0, 0x1e, 0, 0x04, 2, 0xffff);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x04), 0x0407);
}

CASE(ecam) {
  Qemu qemu;
  MakeQ35(qemu);
  EQUAL(qemu.Read(0, 0, 0, 0), 0x29c08086);
  const uint64_t device = 0xb0000000 + (0x1e << 15);
  EQUAL(qemu.Load(device, 4), 0x5a5a5a5a);  // no window yet
  qemu.Write(0, 0, 0, 0x64, 4, 0);
  qemu.Write(0, 0, 0, 0x60, 4, 0xb0000001);
  EQUAL(qemu.Load(device, 4), kPlatformId);
  EQUAL(qemu.Load(device + 0x0a, 2), 0xff80);
  EQUAL(qemu.Load(device + 0x0b, 1), 0xff);
  qemu.Store(device + 0x10, 4, ~0u);
  EQUAL(qemu.Load(device + 0x10, 4), 0xffffff01);
  EQUAL(qemu.Read(0, 0x1e, 0, 0x10), 0xffffff01);
  EQUAL(qemu.Load(0xb0000000, 4), 0x29c08086);
  EQUAL(qemu.Load(device + 0x1000, 4), ~0u);  // function 1
  // Extended space of a conventional device.
  EQUAL(qemu.Load(device + 0x100, 4), 0);
  EQUAL(qemu.Load(device + 0xffc, 4), 0);
  qemu.Store(device + 0x100, 4, ~0u);
  EQUAL(qemu.Load(device + 0x100, 4), 0);
  // Eight bytes at once.
  EQUAL(qemu.Load(device, 8), kPlatformId | uint64_t{qemu.Read(0, 0x1e, 0, 4)} << 32);
  EQUAL(qemu.Load(0xb0000000u - 4, 4), 0x5a5a5a5a);
  EQUAL(qemu.Load(0xc0000000u + (0x1e << 15), 4), 0x5a5a5a5a);
}

CASE(ecam_moves) {
  Qemu qemu;
  MakeQ35(qemu);
  qemu.Read(0, 0, 0, 0);
  // By words and bytes, the upper half last: above 4 GiB.
  qemu.Write(0, 0, 0, 0x60, 2, 0x0001);
  qemu.Write(0, 0, 0, 0x62, 1, 0x00);
  qemu.Write(0, 0, 0, 0x63, 1, 0xe0);
  EQUAL(qemu.Load(0xe0000000u + (0x1e << 15), 4), kPlatformId);
  qemu.Write(0, 0, 0, 0x64, 4, 0x8);
  EQUAL(qemu.Load(0x8'e0000000 + (0x1e << 15), 4), kPlatformId);
  EQUAL(qemu.Load(0xe0000000u + (0x1e << 15), 4), 0x5a5a5a5a);
  // Through the window itself, back down, and off.
  qemu.Store(0x8'e0000064, 4, 0);
  EQUAL(qemu.Load(0xe0000000u + (0x1e << 15), 4), kPlatformId);
  qemu.Store(0xe0000060, 4, 0xe0000000);
  EQUAL(qemu.Load(0xe0000000u + (0x1e << 15), 4), 0x5a5a5a5a);
  // A write that begins below the register and reaches into it.
  qemu.Out(0xcf8, 4, 0x8000005c);
  qemu.Out(0xcfe, 4, 0x00010000);
  EQUAL(qemu.ecam, 0xe0000001);
  EQUAL(qemu.Load(0xe0000000u + (0x1e << 15), 4), kPlatformId);
}

CASE(ecam_length) {
  Qemu qemu;
  MakeQ35(qemu);
  qemu.Read(0, 0, 0, 0);
  // 64 MiB, at a place that a window of 256 MiB could not have.
  qemu.Write(0, 0, 0, 0x60, 4, 0xb4000005);
  EQUAL(qemu.Load(0xb4000000u + (0x1e << 15), 4), kPlatformId);
  EQUAL(qemu.Load(0xb0000000u + (0x1e << 15), 4), 0x5a5a5a5a);
}

CASE(no_ecam_on_pc) {
  Qemu qemu;
  MakePc(qemu);
  qemu.Read(0, 0, 0, 0);
  qemu.Write(0, 0, 0, 0x60, 4, 0xb0000001);
  EQUAL(qemu.Load(0xb0000000u + (0x1e << 15), 4), 0x5a5a5a5a);
}

CASE(reset_in_search) {
  Qemu qemu;
  MakePc(qemu);
  // The machine is reset when QEMU has carried out only the first access of the search.
  KernelVcpu& cpu = kernel.vcpus[qemu.vcpus[0]];
  cpu.exits.push_back([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = KVM_EXIT_IO_OUT;
    run.io.size = 4;
    run.io.port = 0xcf8;
    run.io.count = 1;
    run.io.data_offset = 4096;
    *reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(&run) + 4096) = 0x80000000;
    // QEMU is asked to leave its loop as soon as the access is done.
  });
  CHECK(qemu.Go());
  cpu.exits.push_back([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = KVM_EXIT_IO_IN;
    run.io.port = 0xcfc;
    run.immediate_exit = 1;
  });
  CHECK(qemu.Go());
  qemu.SetSregs(0);
  shared->slots[0].state = xenshim::kDone;
  cpu.open = false;
  // The first vCPU hands in the reset and waits for its answer.
  cpu.run->immediate_exit = 1;
  CHECK(qemu.Go());
  EQUAL(shared->slots[0].kind, xenshim::kSlotReset);
  shared->slots[0].state = xenshim::kDone;
  EQUAL(qemu.Read(0, 0x1e, 0, 0), kPlatformId);
}
