/** Our backend, as in production (store, driver, worker thread), under a native frontend in another process. */
import { createBlockBackend } from '../../../backends/block/driver.js';
import { nullDisk } from '../../../backends/block/target/null-disk.js';
import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import type { Log } from '../../../shim/observe/log.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import { virtualDevice } from '../../../backends/block/virtual-device.js';
import { FakeBlkfront } from '../../helpers/fake-frontend-blkif.js';
import { FakeGuest, HIGH_GFN } from '../../helpers/fake-frontend-guest.js';
import { FakePorts } from '../../helpers/fake-frontend-ports.js';
import { runOn } from '../helpers/native-load.js';
import type { LoadResult } from '../helpers/native-load.js';
import type { BlockCase } from './cases.js';

export interface BenchPlace {
  /** File under test. */
  readonly path: string;
  readonly bytes: number;
  readonly backendCore: number;
  readonly loadCore: number;
  readonly seconds: number;
}

const quiet: Log = {
  trace: () => {},
  debug: () => {},
  info: () => {},
  warn: (fields, message) => {
    console.error(message, fields);
  },
  error: (fields, message) => {
    console.error(message, fields);
  },
  child: () => quiet,
};

/** Pages of each of the guest's two pieces of RAM. */
const GUEST_PAGES = 8192;

export const loadArguments = (test: BlockCase, place: BenchPlace): string[] => [
  String(test.depth),
  String(test.pages),
  test.write ? 'write' : 'read',
  test.random ? 'random' : 'sequential',
  test.event ? 'event' : 'poll',
  String(place.seconds / 4),
  String(place.seconds),
  String(Math.floor(place.bytes / 4096)),
];

export async function ourLoad(
  program: string,
  place: BenchPlace,
  test: BlockCase,
): Promise<LoadResult & { readonly cpuNs: number }> {
  const store = localClient(new Store());
  const ports = new FakePorts();
  const guest = new FakeGuest(GUEST_PAGES);
  const image = nullDisk(place.path, { readonly: false });
  const backend = createBlockBackend({
    store,
    ports,
    handles: guest.handles,
    domid: 1,
    vdev: virtualDevice(0),
    path: place.path,
    ...(image === undefined ? {} : { image }),
    ...(test.direct ? { direct: true } : {}),
    sharedWithQemu: true,
    log: quiet,
  });
  try {
    const order = test.depth > 32 ? Math.ceil(Math.log2(test.depth / 32)) : 0;
    const front = new FakeBlkfront({ store, guest, ports, id: { kind: 'vbd', domid: 1, id: virtualDevice(0).number }, order });
    await front.initialise();
    if ((await front.waitBackend(XenbusState.Connected, XenbusState.Closing)) !== XenbusState.Connected) {
      throw new Error('the backend refused the frontend');
    }
    front.setState(XenbusState.Connected);
    const { ring, port } = front.queues[0]!;
    const { kick, call } = ports.fds(port);
    const offset = (gfn: number): number => (gfn < HIGH_GFN ? gfn : GUEST_PAGES + gfn - HIGH_GFN) * 4096;
    const lines = [`ring ${ring.slots} ${ring.pages.map(({ gfn }) => offset(gfn)).join(' ')}`];
    for (let tag = 0; tag < test.depth; tag++) {
      const list = guest.page();
      const refs = Array.from({ length: test.pages }, () => guest.grant(guest.page().gfn));
      lines.push(`tag ${guest.grant(list.gfn, true)} ${offset(list.gfn)} ${refs.join(' ')}`);
    }
    const before = process.cpuUsage();
    const output = await runOn(place.loadCore, [program, ...loadArguments(test, place), '3', '4', '5'], {
      input: `${lines.join('\n')}\n`,
      fds: [guest.handles.ram[0]!.fd, kick, call],
    });
    const { user, system } = process.cpuUsage(before);
    const result = JSON.parse(output) as LoadResult;
    return { ...result, cpuNs: ((user + system) * 1000) / result.total };
  } finally {
    await backend.close();
    guest.close();
  }
}
