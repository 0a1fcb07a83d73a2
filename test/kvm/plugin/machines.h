// The PCI machines of the cases.
#pragma once
#include "qemu.h"

namespace harness {

constexpr uint32_t kPlatformId = 0x00015853;

// i440FX: IDE is a function of the south bridge.
inline void MakePc(Qemu& qemu) {
  qemu.Add(0, 0, 0, 0x12378086, 0x0600);
  qemu.Add(0, 1, 0, 0x70008086, 0x0601, 0x80);
  qemu.Add(0, 1, 1, 0x70108086, 0x0101);
  qemu.Add(0, 1, 3, 0x71138086, 0x0680);
  qemu.Add(0, 2, 0, 0x11111234, 0x0300);
  qemu.Add(0, 3, 0, 0x100e8086, 0x0200);  // e1000
  qemu.Add(0, 4, 0, 0x10011af4, 0x0100);  // virtio-blk
  qemu.Add(0, 5, 0, 0x10001af4, 0x0200);  // virtio-net
  qemu.Add(0, 6, 0, 0x00101b36, 0x0108);  // NVMe
  qemu.Add(0, 7, 0, 0x000d1b36, 0x0c03);  // USB
  qemu.AddBridge(0, 8, 0, 1);
  qemu.Add(1, 3, 0, 0x100e8086, 0x0200);
}

// q35: AHCI is a function of the south bridge, and root ports are functions of one device.
inline void MakeQ35(Qemu& qemu) {
  qemu.Add(0, 0, 0, 0x29c08086, 0x0600);
  qemu.Add(0, 1, 0, 0x11111234, 0x0300);
  qemu.AddBridge(0, 2, 0, 1, 0x81);
  qemu.AddBridge(0, 2, 1, 2);
  qemu.Add(1, 0, 0, 0x10411af4, 0x0200);
  qemu.Add(2, 0, 0, 0x10411af4, 0x0200);
  qemu.Add(0, 0x1f, 0, 0x29188086, 0x0601, 0x80);
  qemu.Add(0, 0x1f, 2, 0x29228086, 0x0106);
  qemu.Add(0, 0x1f, 3, 0x29308086, 0x0c05);
}

}  // namespace harness
