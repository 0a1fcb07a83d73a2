/** Drives a guest through its PV console: logs in, runs shell commands, reads what they print. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The guest answers no more: an expected text did not come in time, or the console closed. */
export class ConsoleError extends Error {
  override readonly name = 'ConsoleError';
}

/** The guest answered, but a command in it ended with another status than 0. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

export interface CommandResult {
  readonly status: number;
  /** Lines joined by \n, without the last line end. */
  readonly output: string;
}

const bootSeconds = 300;

export class GuestConsole {
  #socket: Socket | undefined;
  #text = '';
  #closed = false;
  #wake: () => void = () => {};
  #commands = 0;

  /** @param path socket of the guest's console. @param alive false once there is no guest to wait for any more */
  constructor(
    private readonly path: string,
    private readonly alive: () => boolean,
  ) {}

  /** Waits for the login prompt, `patience` seconds at most, logs in as root (no password) and quietens the terminal. */
  async login(patience = bootSeconds): Promise<void> {
    if (!this.#socket) await this.#connect(patience);
    await this.#expect(/login: $/, patience);
    this.#send('root\n');
    await this.#expect(/[#$] $/, 120);
    // systemd has a shell report each command to the terminal by PS0 and PROMPT_COMMAND.
    this.#send(" stty -echo cols 500; bind 'set enable-bracketed-paste off' 2>/dev/null; unset PS0 PROMPT_COMMAND; PS1='' PS2=''\n");
    await this.run('true');
  }

  /** Waits until the guest has printed what `pattern` says, and returns all that came before it and the match itself. */
  async waitFor(pattern: RegExp, seconds: number): Promise<string> {
    if (!this.#socket) await this.#connect(seconds);
    const [before, [match]] = await this.#expect(pattern, seconds);
    return before + match;
  }

  /** Waits for the next boot after a reboot was asked for, and logs in again. The console may be closed in between. */
  async loginAgain(): Promise<void> {
    for (;;) {
      try {
        await this.login();
        return;
      } catch (error) {
        if (!(error instanceof ConsoleError) || !this.#closed || !this.alive()) throw error;
        this.disconnect();
      }
    }
  }

  /** Runs a command line in the login shell. */
  async run(command: string, seconds = 180): Promise<CommandResult> {
    const mark = `done-${++this.#commands}`;
    this.#text = '';
    // The mark is put together in the guest, so that an echo of this line is not taken for it.
    this.#send(`${command}\nprintf '\\n@%s:%d@\\n' '${mark}' $?\n`);
    const [before, match] = await this.#expect(new RegExp(`\\n@${mark}:(\\d+)@\\n`), seconds);
    return { status: Number(match[1]), output: before.trim() };
  }

  /** What a command prints; CommandError if it fails. */
  async output(command: string, seconds?: number): Promise<string> {
    const { status, output } = await this.run(command, seconds);
    if (status !== 0) throw new CommandError(`\`${command.split('\n')[0]!}\` ended with ${status}: ${output.slice(-300)}`);
    return output;
  }

  /** Types a line and does not wait for what it does. */
  type(line: string): void {
    this.#send(`${line}\n`);
  }

  /** Lets go of the console; `login` takes it up again. */
  disconnect(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#text = '';
  }

  async #connect(seconds: number): Promise<void> {
    const until = Date.now() + seconds * 1000;
    while (!(await this.#tryConnect())) {
      if (!this.alive()) throw new ConsoleError('the guest ended before its console came up');
      if (Date.now() > until) throw new ConsoleError(`no console after ${seconds} s`);
      await sleep(200);
    }
  }

  #tryConnect(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.path);
      socket.once('error', () => {
        resolve(false);
      });
      socket.once('connect', () => {
        this.#socket = socket;
        this.#closed = false;
        resolve(true);
      });
      socket.on('data', (chunk: Buffer) => {
        this.#text += chunk.toString('latin1').replaceAll('\r', '');
        this.#wake();
      });
      socket.on('close', () => {
        if (this.#socket === socket) this.#closed = true;
        this.#wake();
      });
    });
  }

  #send(text: string): void {
    this.#socket?.write(text);
  }

  /** Waits until `pattern` occurs; returns the text before it, which is consumed with it, and the match. */
  async #expect(pattern: RegExp, seconds: number): Promise<[string, RegExpExecArray]> {
    const until = Date.now() + seconds * 1000;
    for (;;) {
      const match = pattern.exec(this.#text);
      if (match) {
        const before = this.#text.slice(0, match.index);
        this.#text = this.#text.slice(match.index + match[0].length);
        return [before, match];
      }
      const left = until - Date.now();
      if (left <= 0 || this.#closed || !this.alive()) {
        const why = left <= 0 ? `within ${seconds} s` : 'before the console closed';
        throw new ConsoleError(`the guest did not answer ${why}; last: ${JSON.stringify(this.#text.slice(-200))}`);
      }
      await this.#more(Math.min(left, 1000));
    }
  }

  async #more(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
  }
}
