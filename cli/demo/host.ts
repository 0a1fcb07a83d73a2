/** Where guests can run: on this machine's KVM, or in the nested lab. */
import { kvmXenProblem, probeKvm } from '../check/kvm.js';
import type { Progress } from '../../vm-images/build.js';
import { runJob } from '../../vm-images/lab/job.js';

export type HostKind = 'native' | 'lab';

/** Chooses, and says in one line why. `native` also needs root: taps and network namespaces are made. */
export function chooseHost(): { kind: HostKind; why: string } {
  const problem = kvmXenProblem(probeKvm());
  if (problem) return { kind: 'lab', why: `${problem.message}: the guest runs in the nested lab` };
  if (process.getuid?.() !== 0) {
    return { kind: 'lab', why: 'KVM would do, but taps need root (sudo npm run demo): the guest runs in the nested lab' };
  }
  return { kind: 'native', why: "the guest runs directly on this machine's KVM" };
}

export interface HostJob {
  /** Script of dist and its arguments; run by node as root on a host with usable KVM. */
  readonly script: string;
  readonly args: readonly string[];
  /** Folder for what the script leaves in $XENSHIM_RESULTS. */
  readonly results: string;
  /** Lab host of the manifest; left out: the first one, trixie. */
  readonly host?: string;
  /** Features of the lab's CPU, as LabJob has them. */
  readonly cpu?: string;
  /** Guest images of the manifest. */
  readonly guests: readonly string[];
  readonly timeoutSeconds: number;
  readonly onOutput: (chunk: Buffer) => void;
  readonly progress: Progress;
}

/**
 * Runs a job in the lab; resolves to its exit status. Without V8's compilers: on an emulated CPU Node starts in half the
 * time without them, and a job only waits for others. The xenshim that it starts has them.
 */
export function runInLab(job: HostJob): Promise<number> {
  return runJob({
    command: `exec node --no-expose-wasm --jitless dist/${job.script} ${job.args.join(' ')}`,
    env: { XENSHIM_RESULTS: '/job/results', ...asked() },
    guests: job.guests,
    ...(job.host === undefined ? {} : { host: job.host }),
    ...(job.cpu === undefined ? {} : { cpu: job.cpu }),
    timeoutSeconds: job.timeoutSeconds,
    onOutput: job.onOutput,
    progress: job.progress,
    results: job.results,
  });
}

/** What whoever starts a job may ask of it by their environment. */
function asked(): Record<string, string> {
  const names = ['XENSHIM_TRANSFER_MIB'];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
}
