/** What has to happen before the memory of a guest that is being reset may be used anew: backends disconnect. */
import type { Log } from '../observe/log.js';

type Hook = () => void | Promise<void>;

/** How long backends may take, ms. Their requests in flight are disk and network I/O. */
const PATIENCE_MS = 10_000;

export class LetGo {
  readonly #log: Log;
  readonly #hooks = new Set<Hook>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Returns what takes the hook away again. */
  add(hook: Hook): () => void {
    this.#hooks.add(hook);
    return () => this.#hooks.delete(hook);
  }

  /** Runs all hooks at once and waits for them. A hook that fails or is late is logged, and the reset goes on. */
  async run(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
    });
    const all = Promise.allSettled([...this.#hooks].map(async (hook) => hook()));
    const outcome = await Promise.race([all, late]);
    clearTimeout(timer);
    if (outcome === undefined) this.#log.error({}, 'a backend does not let go of the guest that is being reset');
    for (const result of outcome ?? []) {
      if (result.status === 'rejected') this.#log.error({ error: String(result.reason) }, 'a backend failed to let go');
    }
  }
}
