/** The monitor of a QEMU daemon: JSON lines, one command at a time in flight or several, answers by id. */
import type { Duplex } from 'node:stream';
import { createInterface } from 'node:readline';

interface Answer {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

export class Qmp {
  #next = 0;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();

  constructor(private readonly stream: Duplex) {
    const lines = createInterface(stream);
    lines.on('line', (line) => {
      this.#line(line);
    });
    // A daemon that was killed resets its connection; 'close' follows. Both report it.
    lines.on('error', () => {});
    stream.on('error', () => {});
    stream.on('close', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the storage daemon has ended'));
      this.#waiting.clear();
    });
  }

  /** Resolves to what the command returns. @throws Error with QEMU's own words, or when the daemon ends */
  execute(command: string, args: object = {}): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (this.stream.destroyed) {
        reject(new Error('the storage daemon has ended'));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  #line(line: string): void {
    let answer: Answer;
    try {
      answer = JSON.parse(line) as Answer;
    } catch {
      return;
    }
    if (answer.id === undefined) return;
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.error === undefined) waiting?.resolve(answer.return);
    else waiting?.reject(new Error(answer.error.desc));
  }
}
