/**
 * The guests that the guest tests look at, one after the other on one host: `runs.js` in the lab, or `allRuns` in this
 * process. Each leaves its report as NAME.json, and a failed one its log.
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { demoSteps, runSession, type Session } from '../../cli/demo/session.js';

type Run = Pick<Session, 'machine' | 'vcpus' | 'memory' | 'steps'>;

export const runs = {
  pc: { machine: 'pc', vcpus: 2, memory: 512, steps: demoSteps },
  q35: { machine: 'q35', vcpus: 2, memory: 512, steps: [...demoSteps, 'reboot'] },
  large: { machine: 'q35', vcpus: 2, memory: 6144, steps: ['kernel', 'high-memory', 'poweroff'] },
} as const satisfies Record<string, Run>;

/** Runs them all. */
export async function allRuns(image: string, results: string, say: (line: string) => void): Promise<void> {
  for (const [name, run] of Object.entries(runs)) {
    const report = await runSession({
      ...run,
      name: `xs${name}`,
      image,
      mode: 'kvm-xen',
      say,
      keepLogs: ({ log }) => copyFileSync(log, join(results, `${name}.log`)),
    });
    writeFileSync(join(results, `${name}.json`), JSON.stringify(report));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const image = join(process.env['XENSHIM_IMAGES'] ?? '.', 'trixie');
  await allRuns(image, process.env['XENSHIM_RESULTS'] ?? '.', (line) => process.stdout.write(`${line}\n`));
}
