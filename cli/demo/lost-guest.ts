/**
 * Tells a guest that the lab's software CPU has lost from one that hangs by our fault. On a VM exit that CPU sometimes saves
 * its host's registers as the guest's (docs/decisions/0007-the-labs-software-cpu.md): the vCPU then "runs" at an address
 * of the host's kvm_amd module, on a stack of the host's kernel. Nothing a guest or xenshim does can make it look so.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

/** One vCPU's registers, as QEMU's `info registers` prints them. */
export interface VcpuRegisters {
  readonly rip: bigint;
  readonly rsp: bigint;
}

export interface AddressRange {
  readonly start: bigint;
  /** First address after it. */
  readonly end: bigint;
}

/**
 * Kernel stacks of the lab host, which runs without KASLR: the first 64 GiB of vmalloc space with 4-level paging (Linux,
 * Documentation/arch/x86/x86_64/mm.rst). Guests have KASLR, and theirs anywhere in the 32 TiB that follow.
 */
const HOST_STACKS: AddressRange = { start: 0xffff_c900_0000_0000n, end: 0xffff_c910_0000_0000n };

const within = (range: AddressRange, address: bigint): boolean => address >= range.start && address < range.end;

/** The registers in the text of `info registers -a`. */
export function parseRegisters(text: string): VcpuRegisters[] {
  return text.split(/^CPU#/m).slice(1).flatMap((part) => {
    const rip = /RIP=([0-9a-f]{16})/.exec(part)?.[1];
    const rsp = /RSP=([0-9a-f]{16})/.exec(part)?.[1];
    return rip === undefined || rsp === undefined ? [] : [{ rip: BigInt(`0x${rip}`), rsp: BigInt(`0x${rsp}`) }];
  });
}

/** Where a module lies, from the text of /proc/modules; undefined if it is not loaded or addresses are hidden. */
export function moduleRange(modules: string, name: string): AddressRange | undefined {
  const line = modules.split('\n').find((each) => each.startsWith(`${name} `));
  const [, size, , , , address] = line?.split(' ') ?? [];
  if (size === undefined || !/^0x[0-9a-f]+$/.test(address ?? '') || BigInt(address!) === 0n) return undefined;
  return { start: BigInt(address!), end: BigInt(address!) + BigInt(size) };
}

/** Whether one of the vCPUs stands in the host's kernel: both its code and its stack are the host's. */
export function isLost(vcpus: readonly VcpuRegisters[], kvmAmd: AddressRange): boolean {
  return vcpus.some(({ rip, rsp }) => within(kvmAmd, rip) && within(HOST_STACKS, rsp));
}

/** What QEMU's monitor says of the vCPUs and their local APICs. */
export const vcpuStates = (monitor: string): Promise<string> =>
  ask(monitor, ['info registers -a', 'info lapic 0', 'info lapic 1'].join('\n'));

/** @param states of `vcpuStates`. False when it cannot be told: then the guest counts as hanging by our fault */
export function lostByTheLab(states: string): boolean {
  if (process.env['XENSHIM_LAB'] !== '1') return false;
  const kvmAmd = moduleRange(readFileSync('/proc/modules', 'utf8'), 'kvm_amd');
  return kvmAmd !== undefined && isLost(parseRegisters(states), kvmAmd);
}

/**
 * How a guest in the lab has ended that went on with registers which are not its own, or undefined: in a triple fault, or
 * stopped by QEMU because KVM does not take back the registers it gave. By then nothing more can be proved.
 * @param log of xenshim and QEMU
 */
export function endedInTheLab(log: string): string | undefined {
  if (process.env['XENSHIM_LAB'] !== '1') return undefined;
  if (/vCPU \d+: triple fault/.test(log)) return 'a vCPU ended in a triple fault';
  return /Failed to set special registers/.test(log) ? 'KVM refuses the registers it gave' : undefined;
}

/** What the monitor says within three seconds. */
function ask(monitor: string, command: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(monitor, () => socket.write(`${command}\n`));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => {}); // no monitor, no answer
    setTimeout(() => {
      socket.destroy();
      resolve(text);
    }, 3000);
  });
}
