/** One guest from its start to its end, with the steps that are asked for; runs on a host with usable KVM. */
import { readFileSync, writeFileSync } from 'node:fs';
import { ConsoleError } from './guest-console.js';
import { GuestRun, type GuestRunOptions } from './guest-run.js';
import { endedInTheLab, lostByTheLab, vcpuStates } from './lost-guest.js';
import { stepLine, type Report, type StepResult } from './report.js';
import { diskStep, identity, type Identity, imageStep, kernelStep, loginStep, networkStep, poweroffStep, unplugStep } from './steps.js';

export interface Session<Name extends string = StepName> extends GuestRunOptions {
  /** What stands for the login in a guest without one: waits until it is up, and says what it is. */
  readonly enter?: (guest: GuestRun) => Promise<Identity>;
  readonly mode: string;
  /** What to look at, besides the login; in the order of the course, whatever the order here. */
  readonly steps: readonly Name[];
  /** A line for people. */
  readonly say: (line: string) => void;
  /** Where a failed run's logs are copied. */
  readonly keepLogs?: (run: GuestRun) => void;
  /** Where every run's console, log and xenstore are copied; `attempt` counts from 1. */
  readonly keepAll?: (run: GuestRun, attempt: number) => void;
}

/** The demo's steps, in the report's order. */
export const demoSteps = ['kernel', 'disk', 'network', 'console', 'unplug', 'poweroff'] as const;
export type StepName = (typeof demoSteps)[number];

/**
 * The lab's software CPU sometimes saves its host's registers as the guest's on a VM exit, and the guest never answers again
 * (docs/decisions/0007-the-labs-software-cpu.md), or goes on with them until it ends in a triple fault. Only a guest whose
 * registers or log show just that is booted anew, and never in silence; one that hangs for any other reason, or whose
 * command fails, has failed.
 */
const LAB_ATTEMPTS = 5;

/** What is done with a guest that is logged in. */
export type Course<Name extends string> = (guest: GuestRun, steps: Steps<Name>, who: Identity) => Promise<void>;

/** Runs the guest through the demo's steps. */
export const runSession = (session: Session): Promise<Report> => runCourse(session, demoCourse);

/** Runs the guest. Never throws for what the guest does wrong: that is a failed step. */
export async function runCourse<Name extends string>(session: Session<Name>, course: Course<Name>): Promise<Report> {
  for (let attempt = 1; ; attempt++) {
    const { report, lost } = await runOnce(session, course, attempt);
    if (report.ok || lost === undefined || attempt >= LAB_ATTEMPTS) return { ...report, attempts: attempt };
    const reason = report.steps.find((step) => !step.ok)?.detail ?? 'no step';
    session.say(`  the lab's software CPU lost the guest, ${lost} (${reason}); ` +
      `attempt ${attempt + 1} of ${LAB_ATTEMPTS}`);
  }
}

/**
 * The demo's steps, and those of `more` while the guest is still up.
 * @param more is told the checksum of the file that the disk step wrote
 */
export const systemCourse = <More extends string>(
  more: (guest: GuestRun, steps: Steps<StepName | More>, sha256: string) => Promise<void>,
): Course<StepName | More> => async (guest, steps, who) => {
  let sha256 = '';
  await steps.run('kernel', () => kernelStep(guest, who.hypervisor));
  await steps.run('disk', async () => {
    const disk = await diskStep(guest);
    sha256 = disk.sha256;
    return disk.detail;
  });
  await steps.run('network', () => networkStep(guest, sha256));
  await steps.run('unplug', () => unplugStep(guest));
  await more(guest, steps, sha256);
  await steps.run('poweroff', () => poweroffStep(guest));
  await steps.run('disk', () => imageStep(guest, sha256));
};

const demoCourse = systemCourse<StepName>(() => Promise.resolve());

async function runOnce<Name extends string>(
  session: Session<Name>,
  course: Course<Name>,
  attempt: number,
): Promise<{ report: Omit<Report, 'attempts'>; lost: string | undefined }> {
  const steps = new Steps(session.steps, session.say);
  let who = { guest: session.name, kernel: 'unknown', hypervisor: 'unknown' };
  let run: GuestRun | undefined;
  try {
    session.say(`starting ${session.machine} with ${session.vcpus} vCPUs and ${session.memory} MiB under xenshim`);
    const guest = await GuestRun.start(session);
    run = guest;
    // Where `ask` looks for the guest.
    process.env['XENSHIM_RUNDIR'] = guest.runDir;
    if (session.enter) {
      who = await session.enter(guest);
    } else {
      await steps.run('console', () => loginStep(guest), 'vital');
      who = await identity(guest);
    }
    await course(guest, steps, who);
  } catch (error) {
    steps.stopped(error);
  }
  const results = steps.results();
  const ok = results.every((step) => step.ok);
  let lost: string | undefined;
  if (run !== undefined && steps.silent) {
    const states = await vcpuStates(run.monitor);
    writeFileSync(run.vcpuDump, states);
    if (lostByTheLab(states)) lost = "its registers are its host's";
  }
  if (run !== undefined && !ok) lost ??= endedInTheLab(readFileSync(run.log, 'utf8'));
  await run?.saveXenstore();
  if (run && !ok) session.keepLogs?.(run);
  if (run) session.keepAll?.(run, attempt);
  await run?.close();
  const machine = `${session.machine}, ${session.vcpus} vCPUs, ${session.memory} MiB`;
  return { report: { ...who, mode: session.mode, machine, steps: results, ok }, lost };
}

export class Steps<Name extends string> {
  readonly #done = new Map<string, StepResult>();
  #stopped: string | undefined;
  /** The guest did not answer any more. */
  silent = false;

  constructor(
    private readonly wanted: readonly Name[],
    private readonly say: (line: string) => void,
  ) {}

  /**
   * A step that runs twice (before and after the shutdown) is good if both parts are.
   * @param vital nothing can be seen after it if it fails
   */
  async run(name: Name | 'console', look: () => Promise<string>, vital?: 'vital'): Promise<void> {
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
    if (this.silent) throw new ConsoleError('the guest stopped answering');
    if (!result.ok && vital !== undefined) throw new Error(`no use without the ${name}`);
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
