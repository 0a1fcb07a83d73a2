/** One backend's end of a device in the store: what it reads of its frontend and what it says of itself. */
import { XenbusState } from '../abi/io/xenbus.js';
import type { Log } from '../observe/log.js';
import type { StoreClient, StoreReader, StoreWriter } from '../xenstore/client.js';
import { parseState, requireDecimal } from './parse.js';
import type { FoundState } from './parse.js';
import { backendPath, errorPath, frontendPath } from './paths.js';
import type { DeviceId } from './paths.js';

export class BackendDevice {
  readonly backendPath: string;
  readonly frontendPath: string;
  #state: XenbusState = XenbusState.Initialising;
  #held = false;
  readonly #unwatch: (() => void)[] = [];

  constructor(
    readonly store: StoreClient,
    readonly id: DeviceId,
    readonly log: Log,
  ) {
    this.backendPath = backendPath(id);
    this.frontendPath = frontendPath(id);
  }

  /** The state this backend last decided on; a toolstack that asks for a detach writes the node behind our back. */
  get state(): XenbusState {
    return this.#state;
  }

  frontendState(): FoundState {
    return parseState(this.store.read(`${this.frontendPath}/state`));
  }

  /** False once the toolstack has asked for the device to leave. */
  online(): boolean {
    return this.store.read(`${this.backendPath}/online`) === '1';
  }

  /** False once the toolstack has removed the backend's directory. */
  exists(): boolean {
    return this.store.exists(`${this.backendPath}/state`);
  }

  /** A key of the backend's directory, written by the toolstack. */
  backendKey(key: string): string | undefined {
    return this.store.read(`${this.backendPath}/${key}`);
  }

  /** A key of the frontend's directory: text of the guest's choosing. */
  frontendKey(key: string): string | undefined {
    return this.store.read(`${this.frontendPath}/${key}`);
  }

  /**
   * A numeric key of the frontend's directory, e.g. `ring-ref` or `queue-1/event-channel`.
   * @param fallback what an absent key means; without it the key is required
   * @throws XenError EINVAL when missing, not a canonical decimal, or above `max`
   */
  frontendNumber(key: string, max: number, fallback?: number): number {
    return requireDecimal(`${this.frontendPath}/${key}`, this.frontendKey(key), max, fallback);
  }

  /** A feature flag of the frontend: "1" is on; absent and anything else are off. */
  frontendFlag(key: string): boolean {
    return this.frontendKey(key) === '1';
  }

  /** Writes keys of the backend's directory, unless the toolstack has removed it. */
  publish(keys: Readonly<Record<string, string>>): void {
    this.#ifPresent((tx) => {
      for (const [key, value] of Object.entries(keys)) tx.write(`${this.backendPath}/${key}`, value);
    });
  }

  /** As `publish`, and the new state in the same transaction: the frontend sees the keys before the state. */
  publishAndSwitch(keys: Readonly<Record<string, string>>, state: XenbusState): void {
    this.#state = state;
    this.#ifPresent((tx, current) => {
      for (const [key, value] of Object.entries(keys)) tx.write(`${this.backendPath}/${key}`, value);
      if (!this.#held && current !== String(state)) tx.write(`${this.backendPath}/state`, String(state));
    });
  }

  /** From here on states are decided but not written: a network backend that waits for its hotplug script. */
  holdState(): void {
    this.#held = true;
  }

  /** Writes the latest state decided on meanwhile. */
  releaseState(): void {
    if (!this.#held) return;
    this.#held = false;
    this.switchState(this.#state);
  }

  /** Writes the state. Never brings a deleted node back, never rewrites an equal value (spec B3). */
  switchState(state: XenbusState): void {
    this.publishAndSwitch({}, state);
  }

  /** Writes keys and the state's own value over itself, so that the frontend's watch fires: a resize. */
  republish(keys: Readonly<Record<string, string>>): void {
    this.#ifPresent((tx, current) => {
      for (const [key, value] of Object.entries(keys)) tx.write(`${this.backendPath}/${key}`, value);
      tx.write(`${this.backendPath}/state`, current);
    });
  }

  /**
   * Gives up on the connection: `error/<nodename>/error` = "<errno> <text>", and Closing.
   * @param errno positive Xen error number
   */
  fatal(errno: number, text: string): void {
    this.log.warn({ device: this.backendPath, errno }, text);
    if (this.exists()) this.store.write(errorPath(this.id), `${errno} ${text}`);
    this.switchState(XenbusState.Closing);
  }

  /**
   * Calls back when the frontend's state or `online` was written, when the backend's directory has vanished, and once
   * after registration.
   */
  watch(changed: () => void): void {
    this.#unwatch.push(
      this.store.watch(`${this.frontendPath}/state`, changed),
      this.store.watch(`${this.backendPath}/online`, changed),
      // Our own writes come back here too, and mean nothing.
      this.store.watch(`${this.backendPath}/state`, () => {
        if (!this.exists()) changed();
      }),
    );
  }

  /** Watches one more key of either directory until `unwatch`. */
  watchKey(path: string, changed: () => void): () => void {
    const stop = this.store.watch(path, changed);
    this.#unwatch.push(stop);
    return stop;
  }

  unwatch(): void {
    for (const stop of this.#unwatch.splice(0)) stop();
  }

  #ifPresent(body: (tx: StoreWriter & StoreReader, current: string) => void): void {
    this.store.transaction((tx) => {
      const current = tx.read(`${this.backendPath}/state`);
      if (current !== undefined) body(tx, current);
    });
  }
}
