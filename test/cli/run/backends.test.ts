import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

import { loadBackend, parseBackend, type BackendPart } from '../../../cli/run/backend-option.js';
import { OtherBackends } from '../../../cli/run/other-backends.js';
import type { BackendContext, BackendFactory } from '../../../shim/backend-kit.js';
import type { Log } from '../../../shim/observe/log.js';
import { localClient } from '../../../shim/xenstore/local-client.js';
import { Store } from '../../../shim/xenstore/store.js';
import { FakeGuest } from '../../helpers/fake-frontend-guest.js';
import { FakePorts } from '../../helpers/fake-frontend-ports.js';
import { refused, refusedLater } from '../refused.js';

test('--backend takes a file and keys with or without a value; two commas are one', (t) => {
  const { file, options } = parseBackend('/my,,disk.js,mib=64,fast,name=a=b');
  t.is(file, '/my,disk.js');
  t.deepEqual([...options], [['mib', '64'], ['fast', 'on'], ['name', 'a=b']]);
  for (const wrong of ['', ',a=1', 'x.js,', 'x.js,=1', 'x.js,a=1,a=2']) refused(t, 'USAGE', () => parseBackend(wrong));
});

test('a module that is not there, does not load or is no backend is refused with a code', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'xenshim-backend-'));
  t.teardown(() => {
    rmSync(dir, { recursive: true });
  });
  const load = (source: string, name: string): Promise<BackendPart> => {
    writeFileSync(join(dir, name), source);
    return loadBackend(parseBackend(join(dir, name)));
  };
  await refusedLater(t, 'BACKEND_MISSING', () => loadBackend(parseBackend(join(dir, 'none.mjs'))));
  await refusedLater(t, 'BACKEND_MISSING', () => loadBackend(parseBackend(dir)));
  t.regex(await refusedLater(t, 'BACKEND_LOAD', () => load('throw new Error("no\\nluck");', 'throws.mjs')), /Error: no:/);
  await refusedLater(t, 'BACKEND_LOAD', () => load('}', 'syntax.mjs'));
  await refusedLater(t, 'BACKEND_EXPORT', () => load('export const backend = 1;', 'nothing.mjs'));
  t.is((await load('export default () => "a backend";', 'good.mjs')).factory({} as BackendContext) as unknown, 'a backend');
});

/** Backends of a guest, and what the log says. */
function running(...factories: BackendFactory[]): { backends: OtherBackends; guest: FakeGuest; lines: string[] } {
  const lines: string[] = [];
  const note = (_fields: object, message: string): void => {
    lines.push(message);
  };
  const log: Log = { trace: note, debug: note, info: note, warn: note, error: note, child: () => log };
  const guest = new FakeGuest(64);
  const parts = factories.map((factory) => ({ file: 'x.js', options: new Map([['key', 'value']]), factory }));
  const backends = new OtherBackends(parts, log);
  backends.start({
    domid: 1, store: localClient(new Store()), ports: new FakePorts(), handles: () => guest.handles,
    attached: guest.attached, threadLost: () => {},
  });
  return { backends, guest, lines };
}

test('a backend that fails costs the guest that backend, whichever call it is', async (t) => {
  const calls: string[] = [];
  const fails = (call: string) => (): never => {
    throw new Error(`${call} failed`);
  };
  const note = (call: string) => (): void => {
    calls.push(call);
  };
  const { backends, guest, lines } = running(
    fails('factory'),
    () => ({ letGo: fails('letGo'), restart: fails('restart'), close: fails('close'), remap: fails('remap') }),
    ({ options }) => {
      calls.push(options.get('key')!);
      return { letGo: note('letGo'), restart: note('restart'), close: note('close') };
    },
  );
  await backends.remap(guest.handles.ram);
  await backends.letGo();
  backends.restart();
  t.is(calls.at(-1), 'restart', 'devices are there before the guest goes on');
  await backends.letGo();
  await backends.close();
  t.deepEqual(calls, ['value', 'letGo', 'restart', 'letGo', 'close']);
  t.deepEqual(lines.map((line) => line.split('Error: ')[1]),
    ['factory', 'remap', 'letGo', 'restart', 'letGo', 'close'].map((call) => `${call} failed`));
  guest.close();
});

test('what a backend still has mapped when the machine is reset is ended, and the log says so', async (t) => {
  let context: BackendContext | undefined;
  const { backends, guest, lines } = running((given) => {
    context = given;
    return { letGo: () => {}, restart: () => {}, close: () => {} };
  });
  const mapping = await context!.gntdev.map(1, [guest.grant(guest.page().gfn)]);
  t.is(guest.stats().pinnedRefs, 1);
  await backends.letGo();
  t.is(guest.stats().pinnedRefs, 0);
  t.true(typeof mapping !== 'number' && mapping.buffers.length === 0);
  t.deepEqual(lines, ['the backend kept mappings, which have been ended']);
  guest.close();
});
