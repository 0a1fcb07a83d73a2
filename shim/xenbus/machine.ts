/**
 * Runs a device's transition table. Effects may take time (a disconnect waits for the disk); meanwhile changes of the
 * frontend only leave a mark, and the state is read again afterwards, so a guest that writes its state in a loop costs
 * one pass at a time and no memory.
 */
import { Errno } from '../abi/errno.js';
import { XenbusState } from '../abi/io/xenbus.js';
import { XenError } from '../observe/errors.js';
import type { BackendDevice } from './backend-device.js';
import type { Next, Transition } from './transition.js';

/** More hops than any table's longest path; reached only by a table that never says stay. */
const MAX_HOPS = 16;

export interface MachineActions<Effect extends string> {
  /**
   * Carries out one effect. A XenError makes the connection fail with its errno and text. `connect` may itself write
   * the state together with what it publishes.
   */
  perform(effect: Effect): void | Promise<void>;
  /** After a fatal error, before anything else: give back whatever a half-made connection holds. */
  failed?(): void | Promise<void>;
  /** The device is finished; the machine has stopped. */
  removed(): void | Promise<void>;
}

export class DeviceMachine<Effect extends string> {
  #dirty = false;
  #stopped = false;
  #running: Promise<void> | undefined;

  constructor(
    readonly device: BackendDevice,
    readonly next: Next<Effect>,
    readonly actions: MachineActions<Effect>,
  ) {}

  /** Begins to watch. The first pass happens right after registration, so a frontend that came first is found. */
  start(): void {
    this.device.watch(() => {
      this.changed();
    });
  }

  /** Looks at the device again, now or when the pass under way is done. */
  changed(): void {
    if (this.#stopped) return;
    this.#dirty = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // A change that came between the last look and now.
      if (this.#dirty) this.changed();
    });
  }

  /** Stops watching and waits for the pass under way. */
  async stop(): Promise<void> {
    this.#halt();
    await this.#running;
  }

  /** Resolves when no pass is under way. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #halt(): void {
    this.#stopped = true;
    this.#dirty = false;
    this.device.unwatch();
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      try {
        await this.#walk();
      } catch (error) {
        await this.#fail(error);
      }
    }
  }

  async #walk(): Promise<void> {
    const { device } = this;
    for (let hop = 0; hop < MAX_HOPS && !this.#stopped; hop++) {
      // The toolstack took the backend's directory away: as if the frontend had vanished.
      const frontend = device.exists() ? device.frontendState() : XenbusState.Unknown;
      const transition = this.next(device.state, frontend, device.online());
      if (transition === undefined) return;
      if (transition.fatal !== undefined) {
        // The state is already Closing and the frontend has not moved: said once is enough.
        device.fatal(Errno.EINVAL, transition.fatal);
        await this.actions.failed?.();
        return;
      }
      await this.#hop(transition);
    }
  }

  async #hop(transition: Transition<Effect>): Promise<void> {
    for (const effect of transition.effects) await this.actions.perform(effect);
    this.device.switchState(transition.state);
    if (transition.remove === true) {
      this.#halt();
      await this.actions.removed();
    }
  }

  async #fail(error: unknown): Promise<void> {
    if (error instanceof XenError) {
      this.device.fatal(error.errno, error.message);
    } else {
      // Our own bug: this device pays for it, nobody else.
      this.device.log.error({ device: this.device.backendPath, err: error }, 'backend failed');
      this.device.fatal(Errno.EIO, 'internal error');
    }
    try {
      await this.actions.failed?.();
    } catch (again) {
      this.device.log.error({ device: this.device.backendPath, err: again }, 'clean-up failed');
    }
  }
}
