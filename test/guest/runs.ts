/**
 * The guests that the guest tests look at, one after the other on one host: `runs.js [NAME…]` in the lab, or `allRuns` in
 * this process. Each leaves its report as NAME.json, and a failed one its log.
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { demoSteps, runCourse, runSession, type Session } from '../../cli/demo/session.js';
import { blockCourse, blockDisks, blockSteps, exampleOptions } from './block-course.js';
import { fifoCourse, fifoOptions, fifoSteps } from './fifo-course.js';
import { netCourse, netOptions, netSteps } from './net-course.js';

type Run = Pick<Session, 'machine' | 'vcpus' | 'memory' | 'steps'>;

export const runs = {
  pc: { machine: 'pc', vcpus: 2, memory: 512, steps: demoSteps },
  q35: { machine: 'q35', vcpus: 2, memory: 512, steps: [...demoSteps, 'reboot'] },
  large: { machine: 'q35', vcpus: 2, memory: 6144, steps: ['kernel', 'high-memory', 'poweroff'] },
} as const satisfies Record<string, Run>;

/** The guest that uses its disks in every way there is. */
export const blockRun = { machine: 'q35', vcpus: 2, memory: 512, disks: blockDisks, xenOptions: exampleOptions, steps: blockSteps } as const;

/** The guest with what Xen offers beyond the default. */
export const fifoRun = { machine: 'q35', vcpus: 2, memory: 512, xenOptions: fifoOptions, steps: fifoSteps } as const;

/** The guest that uses its network in every way there is. */
export const netRun = { machine: 'q35', vcpus: 2, memory: 512, vifOptions: netOptions, steps: netSteps } as const;

/** What every test run boots; `net` and `fifo` wait for more trials on hardware before they join them. */
export const usual: readonly string[] = [...Object.keys(runs), 'block'];

/** Runs the usual ones, or those named. */
export async function allRuns(
  image: string,
  results: string,
  say: (line: string) => void,
  names: readonly string[] = usual,
): Promise<void> {
  for (const name of names) {
    const common = {
      name: `xs${name}`,
      image,
      mode: 'kvm-xen',
      say,
      keepLogs: ({ log }: { readonly log: string }) => copyFileSync(log, join(results, `${name}.log`)),
    };
    const report = name === 'block'
      ? await runCourse({ ...blockRun, ...common }, blockCourse)
      : name === 'net' ? await runCourse({ ...netRun, ...common }, netCourse)
      : name === 'fifo' ? await runCourse({ ...fifoRun, ...common }, fifoCourse)
      : await runSession({ ...runs[name as keyof typeof runs], ...common });
    writeFileSync(join(results, `${name}.json`), JSON.stringify(report));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const image = join(process.env['XENSHIM_IMAGES'] ?? '.', 'trixie');
  const names = process.argv.slice(2);
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  await allRuns(image, process.env['XENSHIM_RESULTS'] ?? '.', say, names.length > 0 ? names : undefined);
}
