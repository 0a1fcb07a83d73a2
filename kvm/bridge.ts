/**
 * The bridge between the QEMU process and this one: what the plugin can do for the shim, and what it tells it. No Xen
 * policy lives behind it. `kvm/native-bridge.ts` implements it over shared memory and a socket; tests use a fake.
 *
 * Methods are synchronous and cold (one message to the plugin's service thread, 20–50 µs) unless they say otherwise.
 * A request the kernel refuses throws KvmError with its errno; a plugin that is gone throws BridgeClosed.
 */

/** A range of guest RAM inside a file descriptor: what a thread needs to map it for itself. Structured-clonable. */
export interface RamRange {
  readonly fd: number;
  /** Byte offset in the file. */
  readonly offset: number;
  /** First guest frame number. */
  readonly gfn: number;
  readonly pages: number;
}

/** Guest RAM watched by a userfaultfd made in QEMU's process. The holder closes `fd`. */
export interface RamWatch {
  readonly fd: number;
  /** Where QEMU has mapped the files of guest RAM; `fd` as in RamRange, addresses and lengths in bytes. */
  readonly mappings: readonly { readonly fd: number; readonly offset: number; readonly hva: number; readonly length: number }[];
}

/** Pages of our own that can be shown to the guest at a frame of our choosing (grant frames, store and console rings). */
export interface OwnPages {
  readonly fd: number;
  readonly pages: number;
  readonly buffer: ArrayBufferLike;
}

/** A hypercall a vCPU is waiting in. Valid until it is answered; fields are a private copy. */
export interface HypercallExit {
  readonly vcpu: number;
  /** RAX (EAX outside long mode): hypercall number. */
  readonly nr: number;
  /** RDI RSI RDX R10 R8 R9, or EBX ECX EDX ESI EDI EBP zero-extended. */
  readonly args: BigUint64Array;
  /** Privilege level of the caller. */
  readonly cpl: number;
  /** True when the vCPU executed 64-bit code. */
  readonly longMode: boolean;
  /** Control registers of the moment, for walking the guest's page tables. */
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** Bits of KVM_CAP_XEN_HVM (linux/kvm.h). */
export const KvmXenCap = Object.freeze({
  HYPERCALL_MSR: 1 << 0,
  INTERCEPT_HCALL: 1 << 1,
  SHARED_INFO: 1 << 2,
  RUNSTATE: 1 << 3,
  EVTCHN_2LEVEL: 1 << 4,
  EVTCHN_SEND: 1 << 5,
  RUNSTATE_UPDATE_FLAG: 1 << 6,
  PVCLOCK_TSC_UNSTABLE: 1 << 7,
  SHARED_INFO_HVA: 1 << 8,
});

/** What the plugin stands in for where the kernel has none of it (kvm/plugin/any). */
export const ANY_KVM =
  KvmXenCap.HYPERCALL_MSR | KvmXenCap.INTERCEPT_HCALL | KvmXenCap.SHARED_INFO | KvmXenCap.EVTCHN_2LEVEL |
  KvmXenCap.EVTCHN_SEND;

export interface RunstateTimes {
  readonly state: number;
  /** ns of system time at which `state` was entered. */
  readonly stateEntryTime: bigint;
  /** ns spent in running, runnable, blocked, offline. */
  readonly time: readonly [bigint, bigint, bigint, bigint];
}

/** Where the kernel delivers an EVTCHNOP_send of the guest (KVM_XEN_ATTR_TYPE_EVTCHN). */
export type SendRoute =
  /** To an eventfd: an interdomain channel with a backend. */
  | { readonly to: 'eventfd'; readonly fd: number }
  /** To a port of the guest itself: an IPI. */
  | { readonly to: 'port'; readonly port: number; readonly vcpu: number };

/** `hold`: every vCPU stands still until QEMU resets the machine or ends. */
export type PowerAction = 'poweroff' | 'reset' | 'crash' | 'hold';

export interface BridgeEvents {
  /**
   * A hypercall. Return the result (RAX; negative numbers are sign-extended), or undefined to leave the vCPU waiting
   * and answer later with `complete`.
   */
  hypercall(exit: HypercallExit): number | undefined;
  /** QEMU has reset the machine: all guest state is gone; vCPUs waiting in a hypercall no longer are. */
  reset(): void | Promise<void>;
  /** The layout of guest RAM changed: `ramRanges()` returns the new one. */
  ramChanged(): void;
  /** The QEMU process or its plugin is gone. */
  closed(): void;
}

export interface Bridge {
  /** KVM_CAP_XEN_HVM of the host, or ANY_KVM. */
  readonly capabilities: number;
  readonly own: OwnPages;
  /** Ids of the vCPUs QEMU has created so far, ascending. */
  vcpus(): number[];
  ramRanges(): RamRange[];
  listen(events: BridgeEvents): void;
  /** Answers a hypercall left waiting. Hot: shared memory and at most one futex wake. */
  complete(vcpu: number, result: number): void;

  /** KVM_XEN_ATTR_TYPE_LONG_MODE: the width of shared_info and of the structures the kernel parses. */
  setLongMode(on: boolean): void;
  /** KVM_XEN_ATTR_TYPE_SHARED_INFO; undefined removes it. Also moves no vcpu_info. */
  setSharedInfo(gfn: number | undefined): void;
  /** KVM_XEN_ATTR_TYPE_UPCALL_VECTOR: HVM_PARAM_CALLBACK_IRQ of the vector type; 0 removes it. */
  setCallbackVector(vector: number): void;

  /** KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO; undefined removes it. `gpa` in bytes. */
  setVcpuInfo(vcpu: number, gpa: number | undefined): void;
  setVcpuTimeInfo(vcpu: number, gpa: number | undefined): void;
  setRunstateArea(vcpu: number, gpa: number | undefined): void;
  /** KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG: VMASST_TYPE_runstate_update_flag. */
  setRunstateUpdateFlag(on: boolean): void;
  getRunstate(vcpu: number): RunstateTimes;
  /** ns of the guest's system time now (KVM_GET_CLOCK). A bridge without it leaves the shim to its own clock. */
  systemTime?(): bigint;
  /** KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR; 0 removes it. */
  setUpcallVector(vcpu: number, vector: number): void;
  /**
   * KVM_XEN_VCPU_ATTR_TYPE_TIMER: the port the kernel raises for set_timer_op and singleshot timers; port 0 stops the
   * kernel from handling them. `expires` in ns of system time, 0 = not armed.
   */
  setTimer(vcpu: number, port: number, expires: bigint): void;

  /** KVM_XEN_ATTR_TYPE_EVTCHN; undefined removes the route, so that the send comes here as a hypercall. */
  routeSend(port: number, route: SendRoute | undefined): void;
  /** Makes writes to the eventfd raise a 2-level event on a guest port (irqfd over a Xen event-channel route). */
  bindIrqfd(fd: number, port: number, vcpu: number): void;
  /** Moves a bound eventfd to another vCPU. */
  moveIrqfd(fd: number, vcpu: number): void;
  unbindIrqfd(fd: number): void;
  /** Whether the kernel carries out SCHEDOP_poll, which looks at 2-level events, or leaves it to the shim. */
  setKernelPoll(on: boolean): void;
  /** Raises a 2-level event (KVM_XEN_HVM_EVTCHN_SEND). One-way: does not wait for the plugin, nor mind that it is gone. */
  raise(port: number, vcpu: number): void;
  /** Drives a GSI of the virtual interrupt controller (KVM_IRQ_LINE). One-way. */
  setGsi(gsi: number, level: boolean): void;

  /** Shows page `page` of `own` to the guest at `gfn`, which must be a hole. KvmError EEXIST if it is RAM. */
  placeOwnPage(gfn: number, page: number): void;
  removeOwnPage(gfn: number): void;

  /**
   * From now on missing pages of guest RAM, and writes to those that are protected, wait in the userfaultfd. Once.
   * KvmError EPERM, EINVAL or ENOSYS where the host does not offer that.
   */
  watchRam?(): RamWatch;

  /** Carries out what QEMU would do for an ACPI power-off, a reset or a guest panic, or holds the machine. One-way. */
  power(action: PowerAction): void;
  close(): void;
}

/** A KVM ioctl failed in the QEMU process. */
export class KvmError extends Error {
  override readonly name = 'KvmError';

  constructor(
    readonly operation: string,
    /** Linux errno, positive. */
    readonly errno: number,
  ) {
    super(`${operation}: errno ${errno}`);
  }
}

/** The plugin has gone away. */
export class BridgeClosed extends Error {
  override readonly name = 'BridgeClosed';
}
