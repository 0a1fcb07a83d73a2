/** The host's end of the guest's network: a namespace of its own, in which xenshim makes the tap, and a TCP peer. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { withSbin } from '../../vm-images/process.js';
import type { PeerMessage } from './tcp-peer.js';

const exec = promisify(execFile);

/** RFC 5737 documentation addresses: they clash with nobody's network. */
export const HOST_ADDRESS = '192.0.2.1';
export const GUEST_ADDRESS = '192.0.2.2';

export class HostNetwork {
  #peer: ChildProcess | undefined;
  #messages: PeerMessage[] = [];
  #waiting: (() => void) | undefined;

  private constructor(
    readonly namespace: string,
    readonly tap: string,
  ) {}

  /** Makes the namespace. Needs root. */
  static async create(name: string): Promise<HostNetwork> {
    await ip('netns', 'add', name);
    await ip('-n', name, 'link', 'set', 'lo', 'up');
    return new HostNetwork(name, `${name.slice(0, 11)}tap`);
  }

  /** Puts a command line into the namespace. */
  wrap(command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.namespace, ...command];
  }

  /** Whether the tap exists. */
  async hasTap(): Promise<boolean> {
    return (await this.ip('-o', 'link', 'show')).includes(`: ${this.tap}:`);
  }

  /** Gives the tap, which must exist, the host's address. */
  async configure(): Promise<void> {
    await this.ip('addr', 'add', `${HOST_ADDRESS}/24`, 'dev', this.tap);
    await this.ip('link', 'set', this.tap, 'up');
  }

  /** What `ip` prints in the namespace. */
  async ip(...args: string[]): Promise<string> {
    return (await ip('-n', this.namespace, ...args)).stdout;
  }

  /** Starts the TCP peer, which answers on any address of the namespace. */
  async startPeer(): Promise<void> {
    const script = fileURLToPath(new URL('./tcp-peer.js', import.meta.url));
    const [program, ...args] = this.wrap([process.execPath, ...process.execArgv, script]);
    this.#peer = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'], env: environment() });
    createInterface({ input: this.#peer.stdout! }).on('line', (line) => {
      this.#messages.push(JSON.parse(line) as PeerMessage);
      this.#waiting?.();
    });
    await this.message('listening');
  }

  /** The peer's next message of a kind; waits at most two minutes. */
  async message<K extends PeerMessage['kind']>(kind: K): Promise<Extract<PeerMessage, { kind: K }>> {
    const until = Date.now() + 120_000;
    for (;;) {
      const index = this.#messages.findIndex((message) => message.kind === kind);
      if (index >= 0) return this.#messages.splice(index, 1)[0] as Extract<PeerMessage, { kind: K }>;
      if (Date.now() > until) throw new Error(`the host's TCP peer did not say "${kind}"`);
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
        setTimeout(resolve, 500);
      });
    }
  }

  /** Ends the peer and removes the namespace. */
  async close(): Promise<void> {
    this.#peer?.kill();
    await ip('netns', 'delete', this.namespace).catch(() => {});
  }
}

function ip(...args: string[]): Promise<{ stdout: string }> {
  return exec('ip', args, { env: environment() });
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: withSbin(process.env['PATH']) };
}
