/**
 * Backends given with `--backend`, as one more backend of the guest. They run in this process and are trusted as it is;
 * still, a call of theirs that fails costs the guest that backend only.
 */
import { basename } from 'node:path';
import type { RamRange } from '../../kvm/bridge.js';
import type { Backend, BackendContext } from '../../shim/backend-kit.js';
import { Gntdev, type GntdevGuest } from '../../shim/grant-table/gntdev.js';
import type { Log } from '../../shim/observe/log.js';
import { firstLine, type BackendPart } from './backend-option.js';

/** A guest that has found Xen. */
export interface OtherSurroundings extends Pick<BackendContext, 'domid' | 'store' | 'ports' | 'handles' | 'threadLost'> {
  /** As the main thread is attached to it. */
  readonly attached: GntdevGuest;
}

interface Other {
  readonly backend: Backend;
  readonly gntdev: Gntdev;
  readonly log: Log;
}

export class OtherBackends {
  readonly #others: Other[] = [];

  constructor(
    private readonly parts: readonly BackendPart[],
    private readonly log: Log,
  ) {}

  start({ attached, ...guest }: OtherSurroundings): void {
    for (const { file, options, factory } of this.parts) {
      const log = this.log.child({ backend: basename(file) });
      const gntdev = new Gntdev(attached, log);
      try {
        this.#others.push({ backend: factory({ ...guest, options, gntdev, log }), gntdev, log });
      } catch (error) {
        gntdev.releaseAll();
        log.error({}, `the guest goes without this backend: ${firstLine(error)}`);
      }
    }
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await this.#all(({ backend }) => backend.remap?.(ram));
  }

  async letGo(): Promise<void> {
    await this.#all(async ({ backend, gntdev, log }) => {
      try {
        await backend.letGo();
      } finally {
        const mappings = gntdev.releaseAll();
        if (mappings > 0) log.warn({ mappings }, 'the backend kept mappings, which have been ended');
      }
    });
  }

  restart(): void {
    void this.#all(({ backend }) => {
      backend.restart();
    });
  }

  async close(): Promise<void> {
    await this.#all(({ backend }) => backend.close());
  }

  /** Each begins before this returns. */
  async #all(act: (other: Other) => void | Promise<void>): Promise<void> {
    await Promise.all(this.#others.map(async (other) => {
      try {
        await act(other);
      } catch (error) {
        other.log.error({ err: error }, `the backend failed: ${firstLine(error)}`);
      }
    }));
  }
}
