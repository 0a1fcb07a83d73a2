/** A guest that is offered FIFO event channels and grant tables of version 2: what it takes, and that all works with it. */
import { diskStep, imageStep, networkStep, poweroffStep, check } from '../../cli/demo/steps.js';
import type { GuestRun } from '../../cli/demo/guest-run.js';
import type { Course } from '../../cli/demo/session.js';

export const fifoSteps = ['events', 'disk', 'network', 'vcpus', 'poweroff'] as const;
export type FifoStep = (typeof fifoSteps)[number];

export const fifoTitles: Readonly<Record<FifoStep, string>> = {
  events: 'uses FIFO event channels, and grant tables of version 1 although 2 is offered',
  disk: 'writes 64 MiB to its PV root disk, which the image then holds',
  network: 'pings and transfers 64 MiB each way over its PV network',
  vcpus: 'takes a vCPU offline and online again, and is not disturbed by vcpu-set',
  poweroff: 'powers off, and nothing is left',
};

export const fifoOptions = ['--event-channels', 'fifo', '--grant-version', '2'];

async function events({ console }: GuestRun): Promise<string> {
  const lines = await console.output('dmesg | grep -oE "Using (FIFO-based|2-level) ABI|Grant tables using version . layout"');
  check(lines === 'Using FIFO-based ABI\nGrant tables using version 1 layout', `the kernel log says: ${lines}`);
  return lines.replace('\n', ', ');
}

async function vcpus(run: GuestRun): Promise<string> {
  const { console, options: { name } } = run;
  const online = '/sys/devices/system/cpu/cpu1/online';
  const counts = await console.output(`for i in 1 2 3 4 5; do echo 0 > ${online}; nproc; echo 1 > ${online}; nproc; done`);
  check(counts.split('\n').join('') === '1212121212', `CPUs there were: ${counts}`);
  for (const [count, wanted] of [['1', 'offline'], ['2', 'online']] as const) {
    run.xenshim('vcpu-set', name, count);
    const said = run.xenshim('xenstore', name, 'read', 'cpu/1/availability');
    check(said === wanted, `after vcpu-set ${count}: ${said}`);
  }
  check((await console.output('nproc')) === '2', 'a CPU is missing');
  return 'five times offline and online; vcpu-set 1 and 2';
}

export const fifoCourse: Course<FifoStep> = async (guest, steps) => {
  let sha256 = '';
  await steps.run('events', () => events(guest));
  await steps.run('disk', async () => {
    const disk = await diskStep(guest);
    sha256 = disk.sha256;
    return disk.detail;
  });
  await steps.run('network', () => networkStep(guest, sha256));
  await steps.run('vcpus', () => vcpus(guest));
  await steps.run('poweroff', () => poweroffStep(guest));
  await steps.run('disk', () => imageStep(guest, sha256));
};
