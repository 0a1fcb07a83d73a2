/** The session of `npm run demo`, on a host with usable KVM. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Report } from './report.js';
import { demoSteps, runSession } from './session.js';

export interface DemoSession {
  /** Folder with disk.img, vmlinuz and initrd. */
  readonly image: string;
  readonly machine: 'pc' | 'q35';
  readonly say: (line: string) => void;
  /** Folder for the log of a run that failed. */
  readonly logs: string;
}

export function demoSession({ image, machine, say, logs }: DemoSession): Promise<Report> {
  return runSession({
    name: 'xsdemo',
    image,
    machine,
    vcpus: 2,
    memory: 512,
    mode: 'kvm-xen',
    steps: demoSteps,
    say,
    keepLogs: (run) => {
      const kept = join(logs, 'xenshim-demo.log');
      copyFileSync(run.log, kept);
      say(`xenshim's log: ${kept}`);
    },
  });
}
