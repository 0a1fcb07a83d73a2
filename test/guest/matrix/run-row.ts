/** One row on this host: boots the guest, and leaves its result, console, log and xenstore in a folder. */
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kvmMode, probeKvm } from '../../../cli/check/kvm.js';
import type { GuestRun } from '../../../cli/demo/guest-run.js';
import type { RowResult } from './result.js';
import { rowName, type Row } from './rows.js';

/**
 * @param image folder with the guest's image
 * @param results folder that gets NAME.json, NAME.console.log, NAME.xenshim.log, NAME.xenstore.txt, and if there are
 *   such, NAME.serial.log and NAME.vcpus.txt (of a second boot: NAME.boot-2.console.log …)
 */
export async function runRow(row: Row, image: string, results: string, say: (line: string) => void): Promise<RowResult> {
  const { guest, host, machine, entry, course, steps } = row;
  const { boot, vcpus, memory, kernel } = entry;
  mkdirSync(results, { recursive: true });
  const started = Date.now();
  const keepAll = (run: GuestRun, attempt: number): void => {
    const files = {
      'console.log': run.consoleLog, 'serial.log': run.serialLog, 'xenshim.log': run.log, 'xenstore.txt': run.xenstoreDump,
      'vcpus.txt': run.vcpuDump,
    };
    const name = attempt > 1 ? `${rowName(row)}.boot-${attempt}` : rowName(row);
    for (const [kind, file] of Object.entries(files)) {
      if (existsSync(file)) copyFileSync(file, join(results, `${name}.${kind}`));
    }
  };
  const report = await course.run({
    name: `xs${guest}`, image, boot, machine, vcpus, memory, mode: kvmMode(probeKvm()), steps, say, keepAll, ...course.setup,
  }, entry);
  const version = {
    name: 'version', ok: isVersion(report.kernel, kernel), seconds: 0, detail: `kernel ${report.kernel}, the manifest says ${kernel}`,
  };
  const all = version.ok ? report.steps : [...report.steps, version];
  const result: RowResult = {
    guest, host, machine,
    ok: all.every(({ ok }) => ok),
    seconds: Math.round((Date.now() - started) / 100) / 10,
    steps: all,
    ...(report.kernel === 'unknown' ? {} : { kernel: report.kernel }),
    attempts: report.attempts,
  };
  writeFileSync(resultFile(results, row), JSON.stringify(result));
  return result;
}

/** Whether a version is `wanted` or one of its minor versions: 6.1.112 is a 6.1, 6.12.3 is not. */
export const isVersion = (version: string, wanted: string): boolean =>
  version.startsWith(wanted) && !/^\d/.test(version.slice(wanted.length));

export const resultFile = (results: string, row: Row): string => join(results, `${rowName(row)}.json`);
