/** The store for dom0 code of this process: no wire, every right, answers at once. */
import { canonical } from './path.js';
import { dom0, parsePermissions, type Permissions } from './permission.js';
import { mkdir, remove, setPermissions, write, type Context } from './operations.js';
import type { StoreClient, StoreWriter } from './client.js';
import type { Store } from './store.js';
import { Transaction } from './transaction.js';
import type { View } from './view.js';
import type { Watch } from './watch.js';

export function localClient(store: Store): StoreClient {
  const direct = writer(store, store);
  return {
    ...direct,

    transaction<T>(body: (tx: StoreWriter) => T): T {
      const transaction = new Transaction(store, dom0);
      try {
        const result = body(writer(store, transaction));
        const refused = transaction.commit(undefined);
        if (refused !== undefined) throw new Error(`transaction of dom0 refused: ${refused}`);
        return result;
      } finally {
        transaction.abort();
      }
    },

    watch(path: string, changed: (path: string) => void): () => void {
      return watchFromFreshTurns(store, absolute(path, true), changed);
    },
  };
}

/** Like a connection's queue: a path whose event is still waiting is not queued again. */
function watchFromFreshTurns(store: Store, path: string, changed: (path: string) => void): () => void {
  const pending = new Set<string>();
  let watching = true;
  const event = (at: string): void => {
    if (!watching || pending.has(at)) return;
    pending.add(at);
    setImmediate(() => {
      pending.delete(at);
      if (watching) changed(at);
    });
  };
  const watch: Watch = { watcher: { caller: dom0, event }, path, token: '', prefix: 0 };
  store.watches.add(watch);
  event(path);
  return () => {
    watching = false;
    store.watches.remove(watch);
  };
}

function writer(store: Store, view: View): StoreWriter {
  const context: Context = { view, caller: dom0, domain: store.domain(0), cause: undefined };
  return {
    read: (path) => view.get(absolute(path))?.value,
    list: (path) => {
      const node = view.get(absolute(path));
      return node === undefined ? undefined : [...node.children];
    },
    exists: (path) => view.get(absolute(path)) !== undefined,
    write(path, value) {
      must(path, write(context, absolute(path), value));
    },
    mkdir(path) {
      must(path, mkdir(context, absolute(path)));
    },
    remove(path) {
      const at = absolute(path);
      if (view.get(at) === undefined) return false;
      must(path, remove(context, at));
      return true;
    },
    setPermissions(path, texts) {
      must(path, setPermissions(context, absolute(path, true), known(store, texts)));
    },
  };
}

/** In-process code knows which domains exist, so naming one makes it known to the store. */
function known(store: Store, texts: readonly string[]): Permissions {
  const permissions = parsePermissions(texts);
  if (permissions === undefined) throw new Error(`not permissions: ${texts.join(' ')}`);
  for (const { domid } of permissions) store.domain(domid);
  return permissions;
}

function absolute(path: string, specialAllowed = false): string {
  if (!path.startsWith('/') && !(specialAllowed && path.startsWith('@'))) throw new Error(`not absolute: ${path}`);
  const full = canonical(path, '/', specialAllowed);
  if (full === undefined) throw new Error(`not a path of the store: ${path}`);
  return full;
}

function must(path: string, refused: string | undefined): void {
  if (refused !== undefined) throw new Error(`${path}: ${refused}`);
}
