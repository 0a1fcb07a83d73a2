/**
 * Where a case's time goes: CPU time and context switches of each thread, exits of the virtual machine as KVM counts them
 * (Documentation/virt/kvm/api.rst, debugfs), interrupts in the guest.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { BenchGuest } from './bench-guest.js';

/** Name → count; CPU time in ms. */
export type Counters = ReadonlyMap<string, number>;

const KVM = '/sys/kernel/debug/kvm';
/** ms a tick of /proc/PID/stat: USER_HZ is 100 on x86. */
const TICK_MS = 10;

/** Counts so far, from the host and from inside the guest. */
export async function counters(guest: BenchGuest): Promise<Counters> {
  const inGuest = await guest.console.output(`cat /proc/interrupts`);
  const found = new Map<string, number>();
  for (const [name, pid] of Object.entries(guest.pids)) threads(name, pid as number, found);
  exits(guest.pids.qemu, found);
  for (const line of inGuest.split('\n').slice(1)) {
    const [label = '', ...words] = line.trim().split(/\s+/);
    const counts = words.filter((word) => /^\d+$/.test(word)).map(Number);
    const what = words.slice(counts.length).join(' ');
    found.set(`guest irq ${label} ${what}`, counts.reduce((sum, count) => sum + count, 0));
  }
  return found;
}

function threads(name: string, pid: number, found: Map<string, number>): void {
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${tid}/stat`, 'latin1');
      const comm = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      // From field 3 on: utime and stime are 14 and 15.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
      const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'latin1');
      const switches = (key: string): number => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      const thread = `${name}/${comm}/${tid}`;
      found.set(`${thread} user ms`, fields[11]! * TICK_MS);
      found.set(`${thread} system ms`, fields[12]! * TICK_MS);
      found.set(`${thread} sleeps`, switches('voluntary_ctxt_switches'));
      found.set(`${thread} preempted`, switches('nonvoluntary_ctxt_switches'));
    } catch {
      // the thread has just ended
    }
  }
}

function exits(qemu: number, found: Map<string, number>): void {
  let folder: string | undefined;
  try {
    folder = readdirSync(KVM).find((name) => name.startsWith(`${qemu}-`));
  } catch {
    return; // no debugfs here
  }
  if (folder === undefined) return;
  for (const name of readdirSync(`${KVM}/${folder}`)) {
    try {
      const count = Number(readFileSync(`${KVM}/${folder}/${name}`, 'utf8').trim());
      if (Number.isInteger(count)) found.set(`kvm ${name}`, count);
    } catch {
      // a folder or a histogram
    }
  }
}

/** What has changed by more than noise, for each operation of `operations`. */
export function perOperation(before: Counters, after: Counters, operations: number): string[] {
  return [...after].map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const)
    .filter(([, difference]) => difference / operations >= 0.005)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, difference]) => `${(difference / operations).toFixed(3).padStart(10)} ${name}`);
}
