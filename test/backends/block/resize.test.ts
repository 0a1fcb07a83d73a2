import { statSync, truncateSync } from 'node:fs';
import test from 'ava';

import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { OperatorError } from '../../../shim/observe/errors.js';
import { BlockLab } from './lab.js';

const SECTORS = 2048;

/** A connected disk, and what its frontend's watch of the backend's directory saw. */
async function connected(readonly = false): Promise<{ lab: BlockLab; path: string; front: ReturnType<BlockLab['front']>; seen: string[] }> {
  const lab = new BlockLab();
  const path = lab.image(SECTORS);
  lab.backend(path, { readonly });
  const front = lab.front();
  await front.connect();
  const seen: string[] = [];
  lab.store.watch(`${front.backendPath}/state`, () => seen.push(`state ${front.backendKey('state')!}, sectors ${front.backendKey('sectors')!}`));
  // A watch fires once when it is set.
  while (seen.length === 0) await turn();
  seen.length = 0;
  return { lab, path, front, seen };
}

/** Time for watches to fire: they do in an immediate, which a timer that is late comes before. */
const turn = (): Promise<void> => new Promise((done) => setTimeout(() => setImmediate(() => setImmediate(done)), 5));

async function end({ lab, front }: Pick<Awaited<ReturnType<typeof connected>>, 'lab' | 'front'>): Promise<number> {
  if (front.backendState() === XenbusState.Connected) await front.disconnect();
  if (front.complaints.length > 0) throw new Error(front.complaints.join());
  return lab.close();
}

test('a disk that grows tells its frontend by writing its state anew, and serves what is behind the old end', async (t) => {
  const { lab, path, front, seen } = await connected();
  const page = lab.guest.page();
  t.is(await front.transfer(true, SECTORS, [page]), -1);
  t.is(await lab.backends[0]!.resize({ bytes: 4096 * 512, shrink: false }), 4096 * 512);
  await turn();
  t.deepEqual(seen, ['state 4, sectors 4096']);
  t.is(statSync(path).size, 4096 * 512);
  page.u8.fill(0x5a);
  t.is(await front.transfer(true, 4096 - 8, [page]), 0);
  t.is(await front.transfer(true, 4096, [page]), -1);
  t.deepEqual([...lab.read(path).subarray(-4096)], new Array(4096).fill(0x5a));
  t.is(await end({ lab, front }), 0);
});

test('a size that somebody else gave the file counts after a refresh, and not before', async (t) => {
  const { lab, path, front, seen } = await connected(true);
  truncateSync(path, 3000 * 512);
  const page = lab.guest.page();
  t.is(await front.transfer(false, 2048, [page]), -1);
  t.is(await lab.backends[0]!.resize({ shrink: false }), 3000 * 512);
  t.is(await front.transfer(false, 2048, [page]), 0);
  t.is(await lab.backends[0]!.resize({ shrink: false }), 3000 * 512);
  await turn();
  t.deepEqual(seen, ['state 4, sectors 3000']);
  t.is(await end({ lab, front }), 0);
});

test('a disk shrinks only when it may, and writes in flight do not make its file longer again', async (t) => {
  const { lab, path, front } = await connected();
  const backend = lab.backends[0]!;
  await t.throwsAsync(backend.resize({ bytes: 1024 * 512, shrink: false }), { code: 'DISK_SMALLER' });
  t.is(statSync(path).size, SECTORS * 512);
  const page = lab.guest.page();
  const late = Array.from({ length: 30 }, (_, i) => front.transfer(true, SECTORS - 8 * (i + 1), [page]));
  const [bytes] = await Promise.all([backend.resize({ bytes: 1024 * 512, shrink: true }), ...late]);
  t.is(bytes, 1024 * 512);
  t.is(front.backendKey('sectors'), '1024');
  t.is(statSync(path).size, 1024 * 512);
  t.is(await front.transfer(true, 1024, [page]), -1);
  t.is(await front.transfer(true, 1016, [page]), 0);
  t.is(await end({ lab, front }), 0);
});

test('sizes that cannot be are refused with a code, and nothing changes', async (t) => {
  const { lab, path, front, seen } = await connected();
  const refused = async (bytes: number, code: string, index = 0): Promise<void> => {
    const error = await t.throwsAsync(lab.backends[index]!.resize({ bytes, shrink: true }), { instanceOf: OperatorError });
    t.is(error?.code, code);
  };
  await refused(0, 'DISK_SIZE');
  await refused(4096 * 512 + 1, 'DISK_SIZE');
  await refused(2 ** 63, 'DISK_RESIZE');
  lab.backend(lab.image(SECTORS, 'ro.img'), { readonly: true });
  const other = lab.front(1);
  await refused(4096 * 512, 'BLOCK_NOT_CONNECTED', 1);
  await other.connect();
  await refused(4096 * 512, 'DISK_FIXED', 1);
  await other.disconnect();
  t.deepEqual(seen, []);
  t.is(statSync(path).size, SECTORS * 512);
  t.is(await front.transfer(false, SECTORS - 8, [lab.guest.page()]), 0);
  t.is(await end({ lab, front }), 0);
});

test('E74: a resize while the frontend is Initialised, Closing or Closed brings no state back', async (t) => {
  const { lab, front, seen } = await connected();
  const backend = lab.backends[0]!;
  // Decided while connected, finished while the frontend is leaving.
  const resized = backend.resize({ bytes: 4096 * 512, shrink: false });
  front.setState(XenbusState.Closing);
  await front.waitBackend(XenbusState.Closing);
  await resized;
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  seen.length = 0;
  await t.throwsAsync(backend.resize({ bytes: 8192 * 512, shrink: false }), { code: 'BLOCK_NOT_CONNECTED' });
  await turn();
  t.is(front.backendState(), XenbusState.Closed);
  t.deepEqual(seen, []);
  // Initialised: the backend has not connected yet, or has just done so; there is no third outcome.
  await front.initialise();
  const early = await backend.resize({ bytes: 8192 * 512, shrink: false }).catch((error: unknown) => (error as OperatorError).code);
  await front.waitBackend(XenbusState.Connected);
  t.true(early === 8192 * 512 || early === 'BLOCK_NOT_CONNECTED');
  t.is(front.backendKey('sectors'), early === 8192 * 512 ? '8192' : '4096');
  front.setState(XenbusState.Closed);
  await front.waitBackend(XenbusState.Closed);
  front.takeBack();
  t.is(await end({ lab, front }), 0);
});

test('a disk that is to leave keeps leaving when it is resized', async (t) => {
  const { lab, front } = await connected();
  const backend = lab.backends[0]!;
  backend.detach();
  await backend.resize({ bytes: 4096 * 512, shrink: false });
  t.is(front.backendState(), XenbusState.Closing);
  t.is(front.backendKey('online'), '0');
  front.setState(XenbusState.Closed);
  while (lab.removed.length === 0) await turn();
  front.takeBack();
  t.false(lab.store.exists(front.backendPath));
  t.is(await end({ lab, front }), 0);
});
