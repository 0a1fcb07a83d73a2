/** What every Linux guest runs: the demo's steps, and further ones that try all of what a kernel asks of Xen. */
import { systemCourse, type Course } from '../../cli/demo/session.js';
import { cpusStep, highMemoryStep, kexecStep, rebootStep, stressStep, xenstoreStep } from './linux-steps.js';

export const linuxTitles = {
  kernel: 'finds itself on Xen HVM, with all its vCPUs and the Xen clock',
  disk: 'writes 64 MiB to its PV root disk, which the image then holds',
  network: 'pings and transfers 64 MiB each way over its PV network',
  console: 'answers a login on its PV console',
  unplug: 'sees no emulated disk or NIC',
  poweroff: 'powers off when asked from outside, and nothing is left',
  'high-memory': 'does disk I/O straight from and to pages above 4 GiB',
  xenstore: 'reads and writes its xenstore with the distribution’s tools',
  cpus: 'takes its vCPUs offline and online again',
  stress: 'uses disk and network at once for a while, and every checksum is right',
  kexec: 'starts another kernel with kexec, which finds everything again',
  reboot: 'reboots from inside and comes back',
} as const;
export type LinuxStep = keyof typeof linuxTitles;

/** @param stress seconds that the step of this name takes */
export const linuxCourse = (stress: number): Course<LinuxStep> => systemCourse<LinuxStep>(async (guest, steps, sha256) => {
  await steps.run('high-memory', () => highMemoryStep(guest));
  await steps.run('xenstore', () => xenstoreStep(guest));
  await steps.run('cpus', () => cpusStep(guest));
  await steps.run('stress', () => stressStep(guest, sha256, stress));
  await steps.run('kexec', () => kexecStep(guest), 'vital');
  await steps.run('reboot', () => rebootStep(guest), 'vital');
});
