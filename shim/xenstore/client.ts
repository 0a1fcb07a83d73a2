/**
 * The store as dom0 code inside this process uses it: privileged, synchronous, no wire. Paths are absolute. A missing
 * node is `undefined` or `false`, never an exception; a path that breaks the syntax rules is our own bug and throws.
 */

export interface StoreReader {
  /** The node's value decoded as latin1 text, or undefined if it does not exist. */
  read(path: string): string | undefined;
  /** Names of the children, in creation order, or undefined if the node does not exist. */
  list(path: string): string[] | undefined;
  exists(path: string): boolean;
}

export interface StoreWriter extends StoreReader {
  /** Writes a value, creating missing parents. */
  write(path: string, value: string): void;
  mkdir(path: string): void;
  /** Removes the node and all below it; false if there was none. */
  remove(path: string): boolean;
  /** Permissions in the wire's notation: `n0`, `r1`, `b2` …; the first names the owner. */
  setPermissions(path: string, permissions: readonly string[]): void;
}

export interface StoreClient extends StoreWriter {
  /**
   * Runs `body` against a transaction and commits it: watches fire after the commit, once per changed node. In-process
   * code never sees a conflict, because nothing else runs in between. If `body` throws, nothing is committed.
   */
  transaction<T>(body: (tx: StoreWriter) => T): T;
  /**
   * Calls back for the node and everything below it, with the path that changed; once right after registration (with
   * the watched path itself), always from a fresh turn of the event loop. Returns the function that unwatches.
   */
  watch(path: string, changed: (path: string) => void): () => void;
}
