/** A whole disk without a machine: store, ports, driver, worker thread and image, and a frontend on the other side. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createBlockBackend } from '../../../backends/block/driver.js';
import type { BlockBackend, BlockBackendOptions } from '../../../backends/block/driver.js';
import { virtualDevice } from '../../../backends/block/virtual-device.js';
import type { Log } from '../../../shim/observe/log.js';
import { errorPath } from '../../../shim/xenbus/paths.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import { FakeBlkfront } from '../../helpers/fake-frontend-blkif.js';
import type { BlkfrontOptions } from '../../helpers/fake-frontend-blkif.js';
import { FakeGuest } from '../../helpers/fake-frontend-guest.js';
import { FakePorts } from '../../helpers/fake-frontend-ports.js';
import { pattern } from './rig.js';

export class BlockLab {
  readonly store = localClient(new Store());
  readonly ports = new FakePorts();
  readonly dir = mkdtempSync(join(tmpdir(), 'xenshim-block-'));
  readonly backends: BlockBackend[] = [];
  readonly messages: string[] = [];
  readonly removed: string[] = [];

  constructor(readonly guest = new FakeGuest()) {}

  image(sectors: number, name = 'disk.img'): string {
    const path = join(this.dir, name);
    writeFileSync(path, pattern(sectors * 512));
    return path;
  }

  read(path: string): Buffer {
    return readFileSync(path);
  }

  backend(path: string, options: Partial<BlockBackendOptions> = {}): BlockBackend {
    const index = this.backends.length;
    const backend = createBlockBackend({
      store: this.store,
      ports: this.ports,
      handles: this.guest.handles,
      domid: 1,
      vdev: virtualDevice(index),
      path,
      log: this.log,
      removed: () => this.removed.push(virtualDevice(index).name),
      ...options,
    });
    this.backends.push(backend);
    return backend;
  }

  front(index = 0, options: Partial<BlkfrontOptions> = {}): FakeBlkfront {
    const { store, guest, ports } = this;
    return new FakeBlkfront({ store, guest, ports, id: this.id(index), ...options });
  }

  id(index = 0): { kind: string; domid: number; id: number } {
    return { kind: 'vbd', domid: 1, id: virtualDevice(index).number };
  }

  error(index = 0): string | undefined {
    return this.store.read(errorPath(this.id(index)));
  }

  /** Descriptors on files of this lab: tests of other files run in this process, too. */
  openFds(): number {
    return readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(this.dir);
      } catch {
        return false;
      }
    }).length;
  }

  /** Ends everything; grant handles and pins that were left. */
  async close(): Promise<number> {
    for (const backend of this.backends) await backend.close();
    const { handles, pinnedRefs } = this.guest.stats();
    this.guest.close();
    rmSync(this.dir, { recursive: true });
    return handles + pinnedRefs;
  }

  get log(): Log {
    const note = (_fields: object, message: string): void => {
      this.messages.push(message);
    };
    const log: Log = { trace: note, debug: note, info: note, warn: note, error: note, child: () => log };
    return log;
  }
}
