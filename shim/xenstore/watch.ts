/** Watches, found by the path they watch: a change looks at its own path and at those above it. */
import { accessFor, Access, type Caller, type Permissions } from './permission.js';
import { isSpecial, parentOf } from './path.js';
import type { Node } from './node.js';
import type { Outstanding } from './domain.js';

/** Who watches: a connection, or code in this process. */
export interface Watcher {
  readonly caller: Caller;
  /**
   * Takes an event for later delivery; must not call back into the store.
   * @param path as the watcher named it: relative if the watch is
   * @param cause the guest's request that made it happen, to be held until the event is read
   */
  event(path: string, token: string, cause: Outstanding | undefined): void;
}

export interface Watch {
  readonly watcher: Watcher;
  /** Absolute, or special. */
  readonly path: string;
  readonly token: string;
  /** Chars to cut from an absolute path to report it as the watcher knows it. */
  readonly prefix: number;
}

export class WatchTable {
  readonly #byPath = new Map<string, Set<Watch>>();

  add(watch: Watch): void {
    const set = this.#byPath.get(watch.path);
    if (set === undefined) this.#byPath.set(watch.path, new Set([watch]));
    else set.add(watch);
  }

  remove(watch: Watch): void {
    const set = this.#byPath.get(watch.path);
    if (set?.delete(watch) === true && set.size === 0) this.#byPath.delete(watch.path);
  }

  /**
   * Sends the change of `path` to everyone who watches it (and, unless `exact`, anything above it) and may know: the
   * node or its parent is readable to them, or the node was before its permissions changed.
   */
  fire(
    path: string,
    node: Node | undefined,
    parent: Node | undefined,
    exact: boolean,
    before: Permissions | undefined,
    cause: Outstanding | undefined,
  ): void {
    for (let at = path; ; at = parentOf(at)) {
      const set = this.#byPath.get(at);
      if (set !== undefined) {
        for (const watch of set) {
          if (!permitted(watch.watcher.caller, node, parent, before)) continue;
          watch.watcher.event(path.slice(watch.prefix), watch.token, cause);
        }
      }
      if (exact || at === '/' || isSpecial(path)) return;
    }
  }
}

function permitted(
  caller: Caller,
  node: Node | undefined,
  parent: Node | undefined,
  before: Permissions | undefined,
): boolean {
  const reads = (permissions: Permissions | undefined) =>
    permissions !== undefined && (accessFor(caller, permissions) & Access.READ) !== 0;
  return reads(before) || (node !== undefined && (reads(node.permissions) || reads(parent?.permissions)));
}
