/**
 * A vif's end in the store, with the gate of its hotplug script (spec C2): once connected, the frontend is told of a new
 * state only when `hotplug-status` says that the host's side of the interface is in place.
 */
import type { XenbusState } from '../../shim/abi/io/xenbus.js';
import { BackendDevice } from '../../shim/xenbus/backend-device.js';

const HOTPLUG_STATUS = 'hotplug-status';
const IN_PLACE = 'connected';

export class VifDevice extends BackendDevice {
  #stopWatch: (() => void) | undefined;
  /** The latest state decided on while the gate was shut. */
  #held: XenbusState | undefined;

  override get state(): XenbusState {
    return this.#held ?? super.state;
  }

  /** Shuts the gate until `hotplug-status` is "connected"; opens at once, in a later turn, if it is so already. */
  awaitHotplug(): void {
    this.#stopWatch?.();
    this.#stopWatch = this.store.watch(`${this.backendPath}/${HOTPLUG_STATUS}`, () => {
      if (this.backendKey(HOTPLUG_STATUS) === IN_PLACE) this.#open();
    });
  }

  /** Says that the host's side of the interface is in place. */
  hotplugDone(): void {
    this.publish({ [HOTPLUG_STATUS]: IN_PLACE });
  }

  /** Leaves nothing of the script's behind for the next backend of this directory. */
  forgetHotplug(): void {
    this.store.remove(`${this.backendPath}/${HOTPLUG_STATUS}`);
  }

  override publishAndSwitch(keys: Readonly<Record<string, string>>, state: XenbusState): void {
    if (this.#stopWatch === undefined) {
      super.publishAndSwitch(keys, state);
      return;
    }
    this.publish(keys);
    this.#held = state;
  }

  override unwatch(): void {
    super.unwatch();
    this.#stopWatch?.();
    this.#stopWatch = undefined;
  }

  #open(): void {
    this.#stopWatch?.();
    this.#stopWatch = undefined;
    const state = this.#held;
    this.#held = undefined;
    if (state !== undefined) this.switchState(state);
  }
}
