// What the plugin and the addon share: the exit slots in the bridge memfd and the messages on the bridge socket.
// Both sides compile this file; the addon hands the offsets to TypeScript, so there is one definition.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace xenshim {

constexpr uint32_t kMagic = 0x6d687378;  // "xshm"
constexpr uint32_t kProtocolVersion = 1;
constexpr uint32_t kMaxVcpus = 1024;

// Why a vCPU waits in its slot.
enum SlotKind : uint32_t {
  kSlotHypercall = 0,
  kSlotReset = 1,  // the machine was reset; the first vCPU waits until the shim has let go of the old guest
};

// `idle → request` by the vCPU thread, `request → done` by the shim, `done → idle` by the vCPU thread.
enum SlotState : uint32_t { kIdle = 0, kRequest = 1, kDone = 2 };

struct Slot {
  std::atomic<uint32_t> state;    // futex word
  std::atomic<uint32_t> waiting;  // the vCPU thread sleeps on `state`: a wake is needed
  uint32_t kind;
  uint32_t nr;
  uint32_t cpl;
  uint32_t long_mode;
  uint32_t reserved[2];
  uint64_t args[6];
  uint64_t cr0, cr3, cr4, efer;
  int64_t result;
  uint8_t pad[256 - 32 - 48 - 32 - 8];
};
static_assert(sizeof(Slot) == 256);

struct Header {
  uint32_t magic;
  uint32_t version;
  std::atomic<uint32_t> sleeping;        // the shim sleeps in its event loop: ring the doorbell
  std::atomic<uint32_t> ram_generation;  // counts RAM announcements sent
  uint32_t spin_ns;                      // how long a vCPU thread spins before it sleeps
  uint32_t reserved[11];
  std::atomic<uint32_t> pending[kMaxVcpus / 32];  // a bit per slot in state `request` not yet seen
  std::atomic<uint32_t> created[kMaxVcpus / 32];  // a bit per vCPU that exists
  uint8_t pad[4096 - 64 - 2 * kMaxVcpus / 8];
};
static_assert(sizeof(Header) == 4096);

struct Shared {
  Header header;
  Slot slots[kMaxVcpus];
};

// Messages. A request carries `seq` and is answered by kReply with the same one unless it is one-way.
enum Op : uint32_t {
  // shim → plugin, answered
  kSetLongMode = 1,      // on
  kSetSharedInfo,        // gfn or kNone
  kSetCallbackVector,    // vector
  kSetVcpuInfo,          // vcpu, gpa or kNone
  kSetVcpuTimeInfo,      // vcpu, gpa or kNone
  kSetRunstateArea,      // vcpu, gpa or kNone
  kSetRunstateUpdate,    // on
  kGetRunstate,          // vcpu → state, entry, 4 times
  kSetUpcallVector,      // vcpu, vector
  kSetTimer,             // vcpu, port, expires
  kRouteSend,            // port, 0 none | 1 eventfd (+fd) | 2 port, target port, vcpu
  kBindIrqfd,            // key, port, vcpu (+fd)
  kMoveIrqfd,            // key, vcpu
  kUnbindIrqfd,          // key
  kPlacePage,            // gfn, page
  kRemovePage,           // gfn
  kGetTime,              // → ns of system time
  kSetKernelPoll,        // on
  kWatchRam,             // watches all guest RAM for missing pages; a kRamMapping for each mapping and a kRamWatch precede
                         // the reply
  // shim → plugin, one-way
  kRaise = 64,           // port, vcpu
  kSetGsi,               // gsi, level
  kPower,                // PowerAction
  // plugin → shim
  kHello = 128,          // version, KVM_CAP_XEN_HVM, pid
  kReply,
  kRamBegin,             // generation
  kRamFile,              // id (+fd)
  kRamRange,             // file id, offset, gpa, bytes
  kRamEnd,               // generation
  kLogLine,              // level; text
  kRamMapping,           // file id, offset, address in QEMU, bytes
  kRamWatch,             // (+userfaultfd)
  // shim → plugin, once, first (+ bridge memfd, own-pages memfd, doorbell eventfd)
  // version, pages of own memory, Xen's version, 0 or the KVM_CAP_XEN_HVM that the plugin is to stand in for
  kInit = 192,
};

// kHold: no vCPU enters the guest any more, until a reset.
enum PowerAction : uint64_t { kPoweroff = 1, kReset = 2, kCrash = 3, kHold = 4 };

constexpr uint64_t kNone = ~uint64_t{0};
constexpr size_t kArgs = 8;
constexpr size_t kTextSize = 176;

struct Message {
  uint32_t op;
  uint32_t seq;
  int64_t result;  // reply: 0 or negative errno
  uint64_t arg[kArgs];
  char text[kTextSize];
};
static_assert(sizeof(Message) == 256);

}  // namespace xenshim
