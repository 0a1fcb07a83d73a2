/** One guest from its start to its end, with the steps that are asked for; runs on a host with usable KVM. */
import { ConsoleError } from './guest-console.js';
import { GuestRun, type GuestRunOptions } from './guest-run.js';
import { highMemoryStep, rebootStep } from './more-steps.js';
import { stepLine, type Report, type StepResult } from './report.js';
import { diskStep, identity, imageStep, kernelStep, loginStep, networkStep, poweroffStep, unplugStep } from './steps.js';

export interface Session extends GuestRunOptions {
  readonly mode: string;
  /** What to look at, besides the login; in the order of `stepNames`, whatever the order here. */
  readonly steps: readonly StepName[];
  /** A line for people. */
  readonly say: (line: string) => void;
  /** Where a failed run's logs are copied. */
  readonly keepLogs?: (run: GuestRun) => void;
}

/** The demo's steps, in the report's order. */
export const demoSteps = ['kernel', 'disk', 'network', 'console', 'unplug', 'poweroff'] as const;
export type StepName = (typeof demoSteps)[number] | 'high-memory' | 'reboot';

/**
 * The lab's software CPU sometimes swaps a guest's registers for its host's on a VM exit, seen once in about thirty
 * boots, and the guest never answers again (docs/decisions/0007-the-labs-software-cpu.md). What is seen is a command on
 * the console that fails or gets no answer. Only in the lab, and never in silence, such a guest is booted anew.
 */
const LAB_ATTEMPTS = 3;

/** Runs the guest. Never throws for what the guest does wrong: that is a failed step. */
export async function runSession(session: Session): Promise<Report> {
  const attempts = process.env['XENSHIM_LAB'] === '1' ? LAB_ATTEMPTS : 1;
  for (let attempt = 1; ; attempt++) {
    const { report, silent } = await runOnce(session);
    if (report.ok || !silent || attempt >= attempts) return { ...report, attempts: attempt };
    session.say(`  a command on the guest's console failed or got no answer; the lab boots it anew, attempt ${attempt + 1} of ${attempts}`);
  }
}

async function runOnce(session: Session): Promise<{ report: Omit<Report, 'attempts'>; silent: boolean }> {
  const steps = new Steps(session.steps, session.say);
  let who = { guest: session.name, kernel: 'unknown', hypervisor: 'unknown' };
  let run: GuestRun | undefined;
  try {
    session.say(`starting ${session.machine} with ${session.vcpus} vCPUs and ${session.memory} MiB under xenshim`);
    const guest = await GuestRun.start(session);
    run = guest;
    await steps.run('console', () => loginStep(guest));
    who = await identity(guest);
    let sha256 = '';
    await steps.run('kernel', () => kernelStep(guest, who.hypervisor));
    await steps.run('disk', async () => {
      const disk = await diskStep(guest);
      sha256 = disk.sha256;
      return disk.detail;
    });
    await steps.run('network', () => networkStep(guest, sha256));
    await steps.run('unplug', () => unplugStep(guest));
    await steps.run('high-memory', () => highMemoryStep(guest));
    await steps.run('reboot', () => rebootStep(guest));
    await steps.run('poweroff', () => poweroffStep(guest));
    await steps.run('disk', () => imageStep(guest, sha256));
  } catch (error) {
    steps.stopped(error);
  }
  const results = steps.results();
  const ok = results.every((step) => step.ok);
  if (run && !ok) session.keepLogs?.(run);
  await run?.close();
  const machine = `${session.machine}, ${session.vcpus} vCPUs, ${session.memory} MiB`;
  return { report: { ...who, mode: session.mode, machine, steps: results, ok }, silent: steps.silent };
}

class Steps {
  readonly #done = new Map<StepName, StepResult>();
  #stopped: string | undefined;
  /** A command on the guest's console failed or got no answer. */
  silent = false;

  constructor(
    private readonly wanted: readonly StepName[],
    private readonly say: (line: string) => void,
  ) {}

  /** A step that runs twice (before and after the shutdown) is good if both parts are. */
  async run(name: StepName, look: () => Promise<string>): Promise<void> {
    if (name !== 'console' && !this.wanted.includes(name)) return;
    const started = Date.now();
    let result: StepResult;
    try {
      const detail = await look();
      result = { name, ok: true, seconds: seconds(started), detail };
    } catch (error) {
      if (error instanceof ConsoleError) this.silent = true;
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
    if (this.silent) throw new ConsoleError('the guest was given up');
    if (!result.ok && (name === 'console' || name === 'reboot')) throw new Error(`no use without the ${name}`);
  }

  stopped(error: unknown): void {
    if (error instanceof ConsoleError) this.silent = true;
    this.#stopped = message(error);
  }

  results(): StepResult[] {
    return this.wanted.map((name) =>
      this.#done.get(name) ?? { name, ok: false, seconds: 0, detail: `not reached: ${this.#stopped ?? 'unknown'}` });
  }
}

function seconds(started: number): number {
  return Math.round((Date.now() - started) / 100) / 10;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
