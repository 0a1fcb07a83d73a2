/** What a backend does about the state it finds its frontend in: the shape every device's pure table has. */
import type { XenbusState } from '../abi/io/xenbus.js';
import type { FoundState } from './parse.js';

/** One hop. Order of execution: effects, then the state is written, then the removal. */
export interface Transition<Effect extends string> {
  readonly state: XenbusState;
  readonly effects: readonly Effect[];
  /** The frontend broke the protocol: this text goes to the error node (EINVAL) and `state` is Closing. */
  readonly fatal?: string;
  /** The device is finished: stop watching and give it up. */
  readonly remove?: true;
}

/**
 * A backend's table. Pure and total: any number may stand for the frontend's state. `undefined` means stay. After a hop
 * the table is asked again with the new backend state until it says stay, so a table of single hops walks paths.
 */
export type Next<Effect extends string> = (
  backend: XenbusState,
  frontend: FoundState,
  online: boolean,
) => Transition<Effect> | undefined;
