/** A store in a Map: enough of StoreClient for code above it, without permissions, quotas or a wire. */
import type { StoreClient, StoreWriter } from '../../shim/xenstore/client.js';

interface Watch {
  readonly path: string;
  readonly changed: (path: string) => void;
}

export class FakeStore implements StoreClient {
  readonly nodes = new Map<string, string>();
  readonly permissions = new Map<string, readonly string[]>();
  /** Every value written, in order: `path=value`. */
  readonly writes: string[] = [];
  readonly #watches = new Set<Watch>();
  #held: Set<string> | undefined;

  read(path: string): string | undefined {
    return this.nodes.get(path);
  }

  exists(path: string): boolean {
    return this.nodes.has(path);
  }

  list(path: string): string[] | undefined {
    if (!this.nodes.has(path)) return undefined;
    const below = `${path}/`;
    return [...this.nodes.keys()]
      .filter((node) => node.startsWith(below) && !node.slice(below.length).includes('/'))
      .map((node) => node.slice(below.length));
  }

  write(path: string, value: string): void {
    this.mkdir(path.slice(0, path.lastIndexOf('/')));
    this.nodes.set(path, value);
    this.writes.push(`${path}=${value}`);
    this.#fire(path);
  }

  mkdir(path: string): void {
    if (path === '' || this.nodes.has(path)) return;
    this.mkdir(path.slice(0, path.lastIndexOf('/')));
    this.nodes.set(path, '');
    this.#fire(path);
  }

  remove(path: string): boolean {
    const gone = [...this.nodes.keys()].filter((node) => node === path || node.startsWith(`${path}/`));
    for (const node of gone) this.nodes.delete(node);
    // A removal also fires the watches below the node.
    for (const node of gone) this.#fire(node);
    return gone.length > 0;
  }

  setPermissions(path: string, permissions: readonly string[]): void {
    this.permissions.set(path, permissions);
  }

  transaction<T>(body: (tx: StoreWriter) => T): T {
    const before = new Map(this.nodes);
    this.#held = new Set();
    try {
      const result = body(this);
      const held = this.#held;
      this.#held = undefined;
      for (const path of held) this.#fire(path);
      return result;
    } catch (error) {
      this.#held = undefined;
      this.nodes.clear();
      for (const [path, value] of before) this.nodes.set(path, value);
      throw error;
    }
  }

  watch(path: string, changed: (path: string) => void): () => void {
    const watch = { path, changed };
    this.#watches.add(watch);
    this.#later(watch, path);
    return () => this.#watches.delete(watch);
  }

  get watches(): number {
    return this.#watches.size;
  }

  #fire(path: string): void {
    if (this.#held !== undefined) {
      this.#held.add(path);
      return;
    }
    for (const watch of this.#watches) {
      if (path === watch.path || path.startsWith(`${watch.path}/`)) this.#later(watch, path);
    }
  }

  #later(watch: Watch, path: string): void {
    setImmediate(() => {
      if (this.#watches.has(watch)) watch.changed(path);
    });
  }
}

/** Lets every watch that is due fire. */
export async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
