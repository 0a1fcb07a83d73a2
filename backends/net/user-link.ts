/**
 * The link `user`: the guest behind this host's address, without any privilege, by passt (https://passt.top). passt gets
 * one end of a socket pair; it ends when the other end closes, however that comes about.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { closeFd } from '../../shim/io/eventfd.js';
import { OperatorError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import type { Link } from './link.js';
import { openStreamLink } from './stream-link.js';
import { streamPair } from '../../shim/io/unix-socket.js';

const PROGRAM = 'passt';
/** ms before it is started again; doubled each time it ends within MIN_LIFE_MS. */
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 30_000;
const MIN_LIFE_MS = 10_000;
/**
 * passt ends the guest's TCP connections and takes frames of up to 65535 bytes, so that segments need not be as small as
 * those of a wire.
 */
const SEGMENT = 60 * 1024;

/** @throws OperatorError PASST_MISSING */
export function openUserLink(log: Log, program = PROGRAM): Link {
  if (spawnSync(program, ['--version'], { stdio: 'ignore', timeout: 10_000 }).error !== undefined) {
    throw new OperatorError(
      'PASST_MISSING',
      `--vif user needs the program ${program}`,
      'run apt-get install passt, or use a tap',
      3,
    );
  }
  const passt = new Passt(program, log);
  const link = openStreamLink({
    description: 'user',
    log,
    segment: SEGMENT,
    lost: () => {
      passt.again((fd) => {
        link.attach(fd);
      });
    },
    closed: () => {
      passt.end();
    },
  });
  link.attach(passt.start());
  return link;
}

class Passt {
  readonly #program: string;
  readonly #log: Log;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #retry = FIRST_RETRY_MS;
  #ended = false;
  /** What it said last, for the log. */
  #said = '';

  constructor(program: string, log: Log) {
    this.#program = program;
    this.#log = log;
  }

  /** Returns our end of its socket. */
  start(): number {
    const [ours, theirs] = streamPair();
    this.#startedAt = Date.now();
    this.#said = '';
    // It stays in the foreground: a child that daemonizes is nobody's to supervise.
    const child = spawn(this.#program, ['--foreground', '--stderr', '--quiet', '--fd', '3'], {
      stdio: ['ignore', 'ignore', 'pipe', theirs],
    });
    this.#child = child;
    closeFd(theirs);
    child.stderr!.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-400);
    });
    child.once('error', (error) => {
      this.#log.error({ err: error }, `${this.#program} cannot be started`);
    });
    child.once('close', (code, signal) => {
      if (this.#child === child) this.#child = undefined;
      if (this.#ended) return;
      const last = this.#said.trim().split('\n').at(-1);
      this.#log.warn({ code, signal, said: last }, `${this.#program} has ended; it will be started again`);
    });
    return ours;
  }

  /** Starts it again in a while; the longer, the less it lives. */
  again(started: (fd: number) => void): void {
    if (Date.now() - this.#startedAt > MIN_LIFE_MS) this.#retry = FIRST_RETRY_MS;
    this.#timer = setTimeout(() => {
      this.#child?.kill();
      if (!this.#ended) started(this.start());
    }, this.#retry);
    this.#timer.unref();
    this.#retry = Math.min(this.#retry * 2, LAST_RETRY_MS);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#child?.kill();
  }
}
