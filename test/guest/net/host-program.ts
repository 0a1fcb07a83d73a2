/** A program of this folder that runs in the guest's network namespace, takes lines and answers with lines of JSON. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { HostNetwork } from '../../../cli/demo/host-network.js';

/** @typeParam Message what it says, told apart by `kind` */
export class HostProgram<Message extends { readonly kind: string }> {
  readonly #child: ChildProcess;
  readonly #messages: Message[] = [];
  #wake: () => void = () => {};
  #ended = false;

  /** @param script name of a module beside this one */
  constructor(network: HostNetwork, private readonly script: string, ...args: readonly string[]) {
    const file = fileURLToPath(new URL(`./${script}`, import.meta.url));
    const [program, ...rest] = network.wrap([process.execPath, ...process.execArgv, file, ...args]);
    this.#child = spawn(program!, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.#messages.push(JSON.parse(line) as Message);
      this.#wake();
    });
    this.#child.stdin!.on('error', () => {});
    this.#child.once('exit', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  tell(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** Its next message of a kind. @throws Error after `seconds`, or when it has ended */
  async message<K extends Message['kind']>(kind: K, seconds = 120): Promise<Extract<Message, { kind: K }>> {
    const until = Date.now() + seconds * 1000;
    for (;;) {
      const index = this.#messages.findIndex((message) => message.kind === kind);
      if (index >= 0) return this.#messages.splice(index, 1)[0] as Extract<Message, { kind: K }>;
      if (this.#ended || Date.now() > until) throw new Error(`${this.script} on the host did not say "${kind}" within ${seconds} s`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 500);
      });
    }
  }

  end(): void {
    this.#child.kill();
  }
}
