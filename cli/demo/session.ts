/** One guest from its start to its end, with the steps that are asked for; runs on a host with usable KVM. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestRun, type GuestRunOptions } from './guest-run.js';
import { highMemoryStep, rebootStep } from './more-steps.js';
import { stepLine, type Report, type StepResult } from './report.js';
import { diskStep, identity, imageStep, kernelStep, loginStep, networkStep, poweroffStep, unplugStep } from './steps.js';

export type Extra = 'reboot' | 'high-memory';

export interface Session extends GuestRunOptions {
  readonly mode: string;
  readonly extras?: readonly Extra[];
  /** A line for people. */
  readonly say: (line: string) => void;
  /** Where a failed run's logs are copied. */
  readonly keepLogs?: (run: GuestRun) => void;
}

/** Names of the demo's steps, in the report's order. */
export const stepNames = ['kernel', 'disk', 'network', 'console', 'unplug', 'poweroff'] as const;
type StepName = (typeof stepNames)[number] | Extra;

/** Runs the guest. Never throws for what the guest does wrong: that is a failed step. */
export async function runSession(session: Session): Promise<Report> {
  const steps = new Steps(session.say);
  let who = { guest: session.name, kernel: 'unknown', hypervisor: 'unknown' };
  let run: GuestRun | undefined;
  try {
    session.say(`starting ${session.machine} with ${session.vcpus} vCPUs and ${session.memory} MiB under xenshim`);
    const started = await GuestRun.start(session);
    run = started;
    await steps.run('console', () => loginStep(started));
    who = await identity(started);
    await steps.run('kernel', () => kernelStep(started, who.hypervisor));
    let sha256 = '';
    await steps.run('disk', async () => {
      const disk = await diskStep(started);
      sha256 = disk.sha256;
      return disk.detail;
    });
    await steps.run('network', () => networkStep(started, sha256));
    await steps.run('unplug', () => unplugStep(started));
    if (session.extras?.includes('high-memory')) await steps.run('high-memory', () => highMemoryStep(started));
    if (session.extras?.includes('reboot')) await steps.run('reboot', () => rebootStep(started));
    await steps.run('poweroff', () => poweroffStep(started));
    await steps.run('disk', () => imageStep(started, sha256));
  } catch (error) {
    steps.stopped(error);
  }
  const results = steps.results([...stepNames, ...(session.extras ?? [])]);
  const ok = results.every((step) => step.ok);
  if (run && !ok) session.keepLogs?.(run);
  await run?.close();
  await sleep(0);
  return {
    ...who,
    mode: session.mode,
    machine: `${session.machine}, ${session.vcpus} vCPUs, ${session.memory} MiB`,
    steps: results,
    ok,
  };
}

class Steps {
  readonly #done = new Map<StepName, StepResult>();
  #stopped: string | undefined;

  constructor(private readonly say: (line: string) => void) {}

  /** A step that runs twice (before and after the shutdown) is good if both parts are. */
  async run(name: StepName, look: () => Promise<string>): Promise<void> {
    const started = Date.now();
    let result: StepResult;
    try {
      const detail = await look();
      result = { name, ok: true, seconds: seconds(started), detail };
    } catch (error) {
      result = { name, ok: false, seconds: seconds(started), detail: message(error) };
    }
    const before = this.#done.get(name);
    const whole = before === undefined ? result : {
      name,
      ok: before.ok && result.ok,
      seconds: before.seconds + result.seconds,
      detail: before.ok ? `${before.detail}; ${result.detail}` : before.detail,
    };
    this.#done.set(name, whole);
    this.say(stepLine(result));
    if (!result.ok && (name === 'console' || name === 'reboot')) throw new Error(`no use without the ${name}`);
  }

  stopped(error: unknown): void {
    this.#stopped = message(error);
  }

  results(names: readonly StepName[]): StepResult[] {
    return names.map((name) =>
      this.#done.get(name) ?? { name, ok: false, seconds: 0, detail: `not reached: ${this.#stopped ?? 'unknown'}` });
  }
}

function seconds(started: number): number {
  return Math.round((Date.now() - started) / 100) / 10;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
