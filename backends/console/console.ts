/** The PV console: bytes between the guest's console page and whoever is at the host's end. Runs on the main thread. */
import { CONSOLE_OUT_SIZE, ConsoleConnection } from '../../shim/abi/io/console.js';
import { drainEventfd, signalEventfd } from '../../shim/io/eventfd.js';
import { watchReadable } from '../../shim/io/watch.js';
import type { Log } from '../../shim/observe/log.js';
import { silentLog } from '../../shim/observe/log.js';
import type { Endpoint, Typist } from './endpoint.js';
import { openLogFile } from './log-file.js';
import { ConsoleRing } from './ring.js';
import type { ConsolePage } from './ring.js';
import { openSocket } from './socket.js';
import { openTerminal } from './terminal.js';
import type { TerminalOptions } from './terminal.js';
import { EventThrottle } from './throttle.js';

/** Typed bytes that may wait for the guest to read; a source that has more is paused. */
const MAX_TYPED = 64 << 10;

/** Where the host's end is; any of them, together too. */
export interface ConsoleIo {
  readonly terminal?: TerminalOptions;
  /** Path of a unix socket to listen on. */
  readonly socket?: string;
  /** Path of a file that keeps the output. */
  readonly log?: string;
}

/** The guest's end. */
export interface ConsoleChannel {
  readonly page: ConsolePage;
  /** eventfd that becomes readable when the guest has printed or read. */
  readonly kickFd: number;
  /** eventfd that raises the guest's event. */
  readonly callFd: number;
}

export interface ConsoleOptions extends ConsoleChannel {
  readonly io: ConsoleIo;
  readonly log?: Log;
}

export interface ConsoleBackend {
  /** Types into the guest; false when nothing more should be typed for now (the bytes are taken all the same). */
  type(bytes: Uint8Array): boolean;
  /** Sees what the guest prints; `bytes` are only valid during the call. Returns the function that ends it. */
  onPrint(see: (bytes: Uint8Array) => void): () => void;
  /** The machine is being reset: prints what is left, and touches page and descriptors no more. The host's end stays. */
  letGo(): void;
  /** After `letGo`: serves the new machine's page. */
  restart(channel: ConsoleChannel): void;
  /** Prints what is left, lets everybody go, restores the terminal. Does not close the descriptors. Idempotent. */
  close(): void;
}

/** @throws OperatorError CONSOLE_SOCKET, CONSOLE_LOG */
export async function createConsole(options: ConsoleOptions): Promise<ConsoleBackend> {
  const { io, log = silentLog } = options;
  const console = new Console();
  try {
    if (io.log !== undefined) console.attach(openLogFile(io.log));
    if (io.socket !== undefined) console.attach(await openSocket(io.socket, console, log));
    if (io.terminal !== undefined) console.attach(openTerminal(io.terminal, console));
  } catch (error) {
    console.close();
    throw error;
  }
  console.restart(options);
  return console;
}

class Console implements ConsoleBackend, Typist {
  /** None between `letGo` and `restart`. */
  #ring: ConsoleRing | undefined;
  #kickFd = -1;
  #callFd = -1;
  readonly #endpoints: Endpoint[] = [];
  readonly #throttle = new EventThrottle();
  readonly #output = new Uint8Array(CONSOLE_OUT_SIZE);
  /** What was typed and has not fitted yet, oldest first, and how much of the first is gone. */
  readonly #typed: Uint8Array[] = [];
  #typedAt = 0;
  #typedBytes = 0;
  #held = false;
  #stopWatch: (() => void) | undefined;
  #pause: NodeJS.Timeout | undefined;
  #closed = false;

  attach(endpoint: Endpoint): void {
    this.#endpoints.push(endpoint);
  }

  restart({ page, kickFd, callFd }: ConsoleChannel): void {
    if (this.#closed) return;
    this.letGo();
    this.#ring = new ConsoleRing(page);
    this.#kickFd = kickFd;
    this.#callFd = callFd;
    this.#ring.setConnection(ConsoleConnection.CONNECTED);
    this.#listen();
    // The guest may have printed before anybody listened.
    this.#serve();
  }

  letGo(): void {
    if (this.#ring === undefined) return;
    this.#print();
    this.#ring.setConnection(ConsoleConnection.DISCONNECTED);
    this.#ring = undefined;
    this.#stopWatch?.();
    this.#stopWatch = undefined;
    clearTimeout(this.#pause);
  }

  type(bytes: Uint8Array): boolean {
    if (this.#closed) return true;
    this.#typed.push(Uint8Array.from(bytes));
    this.#typedBytes += bytes.length;
    if (this.#feed()) signalEventfd(this.#callFd);
    this.#held = this.#typedBytes > MAX_TYPED;
    return !this.#held;
  }

  onPrint(see: (bytes: Uint8Array) => void): () => void {
    const endpoint: Endpoint = { print: see, resume() {}, close() {} };
    this.#endpoints.push(endpoint);
    return () => {
      const at = this.#endpoints.indexOf(endpoint);
      if (at >= 0) this.#endpoints.splice(at, 1);
    };
  }

  close(): void {
    if (this.#closed) return;
    this.letGo();
    this.#closed = true;
    for (const endpoint of this.#endpoints) endpoint.close();
  }

  #listen(): void {
    this.#pause = undefined;
    this.#stopWatch = watchReadable(this.#kickFd, () => {
      drainEventfd(this.#kickFd);
      const pause = this.#throttle.event(performance.now());
      this.#serve();
      if (pause > 0) this.#muteFor(pause);
    });
  }

  /** Leaves the guest's events unheard for a while; what it prints meanwhile waits in its own page. */
  #muteFor(ms: number): void {
    this.#stopWatch?.();
    this.#stopWatch = undefined;
    this.#pause = setTimeout(() => {
      this.#listen();
    }, ms);
  }

  /** Both directions once; the guest is told if anything moved. */
  #serve(): void {
    const printed = this.#print();
    const typed = this.#feed();
    if (printed || typed) signalEventfd(this.#callFd);
    if (!this.#held || this.#typedBytes > MAX_TYPED / 2) return;
    this.#held = false;
    for (const endpoint of this.#endpoints) endpoint.resume();
  }

  #print(): boolean {
    const count = this.#ring?.takeOutput(this.#output) ?? 0;
    if (count <= 0) return false;
    const bytes = this.#output.subarray(0, count);
    for (const endpoint of [...this.#endpoints]) endpoint.print(bytes);
    return true;
  }

  /** Moves typed bytes into the page; true if any fitted. */
  #feed(): boolean {
    let moved = false;
    const ring = this.#ring;
    while (ring !== undefined && this.#typed.length > 0) {
      const first = this.#typed[0]!;
      const count = ring.putInput(first, this.#typedAt);
      this.#typedAt += count;
      this.#typedBytes -= count;
      if (count > 0) moved = true;
      if (this.#typedAt < first.length) break;
      this.#typed.shift();
      this.#typedAt = 0;
    }
    return moved;
  }
}
