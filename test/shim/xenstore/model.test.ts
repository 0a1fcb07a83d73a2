import test from 'ava';
import fc from 'fast-check';
import { XsType } from '../../../shim/abi/io/xs_wire.js';
import { nodeSize } from '../../../shim/xenstore/node.js';
import { OK, World, type WireClient } from './helpers/wire-client.js';

/** The store as one would explain it: a flat map and a few rules. Permissions as texts, the first the owner's. */
interface Entry {
  value: string;
  perms: string[];
  children: string[];
}
type Model = Map<string, Entry>;
interface Operation {
  verb: 'read' | 'list' | 'perms' | 'write' | 'mkdir' | 'rm' | 'setPerms';
  path: string;
  arg: string;
}

const parent = (path: string): string => path.replace(/\/[^/]+$/, '') || '/';
const name = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const clone = (model: Model): Model => structuredClone(model);

function rights(domid: number, perms: string[]): string {
  const owner = Number(perms[0]!.slice(1));
  if (domid === 0 || domid === owner) return 'rwo';
  const own = perms.slice(1).find((perm) => Number(perm.slice(1)) === domid) ?? perms[0]!;
  return { n: '', r: 'r', w: 'w', b: 'rw' }[own[0] as 'n' | 'r' | 'w' | 'b'];
}

function find(model: Model, domid: number, path: string, need: string): Entry | string {
  const has = (at: string) => [...need].every((right) => rights(domid, model.get(at)!.perms).includes(right));
  if (model.has(path)) return has(path) ? model.get(path)! : 'EACCES';
  let above = parent(path);
  while (!model.has(above)) above = parent(above);
  return [...need].some((right) => rights(domid, model.get(above)!.perms).includes(right)) ? 'ENOENT' : 'EACCES';
}

function make(model: Model, domid: number, path: string, value: string): void {
  const up = parent(path);
  if (!model.has(up)) make(model, domid, up, '');
  const { perms, children } = model.get(up)!;
  const [owner, ...others] = perms;
  model.set(path, { value, perms: [domid === 0 ? owner! : `${owner![0]!}${domid}`, ...others], children: [] });
  children.push(name(path));
}

function apply(model: Model, domid: number, { verb, path, arg }: Operation): string {
  if (verb === 'read' || verb === 'list' || verb === 'perms') {
    const entry = find(model, domid, path, 'r');
    if (typeof entry === 'string') return entry;
    if (verb === 'read') return entry.value;
    return (verb === 'list' ? entry.children : entry.perms).map((text) => `${text}\0`).join('');
  }
  const entry = find(model, domid, path, verb === 'setPerms' ? 'wo' : 'w');
  if (verb === 'setPerms') {
    if (typeof entry === 'string') return entry;
    const perms = arg.split(' ');
    if (domid !== 0 && perms[0]!.slice(1) !== entry.perms[0]!.slice(1)) return 'EPERM';
    entry.perms = perms;
  } else if (verb === 'rm') {
    if (entry === 'ENOENT') return model.has(parent(path)) ? OK : 'ENOENT';
    if (typeof entry === 'string') return entry;
    for (const at of [...model.keys()]) if (at === path || at.startsWith(`${path}/`)) model.delete(at);
    const up = model.get(parent(path))!;
    up.children = up.children.filter((child) => child !== name(path));
  } else {
    if (entry === 'ENOENT') make(model, domid, path, verb === 'write' ? arg : '');
    else if (typeof entry === 'string') return entry;
    else if (verb === 'write') entry.value = arg;
  }
  return OK;
}

const types = {
  read: XsType.READ, list: XsType.DIRECTORY, perms: XsType.GET_PERMS, write: XsType.WRITE, mkdir: XsType.MKDIR, rm: XsType.RM,
  setPerms: XsType.SET_PERMS,
} as const;

function send(client: WireClient, { verb, path, arg }: Operation, tx = 0): string {
  const args = verb === 'write' ? arg : verb === 'setPerms' ? `${arg.replaceAll(' ', '\0')}\0` : '';
  return client.ask(types[verb], `${path}\0${args}`, tx);
}

const names = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const path = fc
  .tuple(fc.constantFrom('/local/domain/1', '/local/domain/2', '/d'), names)
  .map(([top, rest]) => `${top}/${rest}`);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ verb: fc.constantFrom('read', 'list', 'perms', 'mkdir', 'rm'), path, arg: fc.constant('') }),
  fc.record({ verb: fc.constant('write' as const), path, arg: fc.string({ maxLength: 5, unit: 'binary-ascii' }) }),
  fc.record({
    verb: fc.constant('setPerms' as const),
    path,
    arg: fc.constantFrom('n1', 'r1', 'n1 b2', 'n2 r1', 'w2 n1', 'n0 r1', 'b0 r1 w2'),
  }),
);
const domid = fc.constantFrom(0, 1, 2);

function dump(world: World): Record<string, Entry> {
  const letters = 'nrwb';
  return Object.fromEntries(
    [...world.store.entries()]
      .filter(([at]) => at.startsWith('/'))
      .map(([at, node]) => [
        at,
        {
          value: node.value,
          perms: node.permissions.map((permission) => `${letters[permission.access]!}${permission.domid}`),
          children: [...node.children],
        },
      ]),
  );
}

/** What each domain is charged is what it owns. */
function accounts(world: World): boolean {
  return [0, 1, 2].every((id) => {
    const owned = [...world.store.entries()].filter(([, { permissions }]) => permissions[0].domid === id);
    const bytes = owned.reduce((sum, [at, node]) => sum + at.length + nodeSize(node), 0);
    const { nodes, memory } = world.store.domain(id);
    return nodes === owned.length && memory === bytes;
  });
}

function start(): { world: World; model: Model } {
  const world = new World();
  world.client.mkdir('/d');
  world.client.setPermissions('/d', ['b0']);
  return { world, model: new Map(Object.entries(structuredClone(dump(world)))) };
}

const client = (world: World, id: number): WireClient => [world.dom0, world.guest, world.other][id]!;

test('the store answers every operation as a flat map with a few rules does', (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(domid, operation), { maxLength: 60 }), (steps) => {
      const { world, model } = start();
      for (const [id, op] of steps) {
        const expected = apply(model, id, op);
        const actual = send(client(world, id), op);
        if (actual !== expected) throw new Error(`${id} ${JSON.stringify(op)}: ${actual}, not ${expected}`);
      }
      t.deepEqual(dump(world), Object.fromEntries(model));
      return accounts(world) && world.dom0.ask(XsType.CONTROL, 'check\0') === 'OK\0';
    }),
    { numRuns: 400 },
  );
  t.pass();
});

test('a transaction that commits could have run alone at its end, one that is refused has done nothing', (t) => {
  let [committed, refused] = [0, 0];
  const step = fc.record({ id: domid, op: operation, inside: fc.boolean() });
  fc.assert(
    fc.property(domid, fc.array(step, { maxLength: 30 }), (owner, steps) => {
      const { world, model } = start();
      const tx = client(world, owner).start();
      const answers: [Operation, string][] = [];
      let disturbed = false;
      for (const { id, op, inside } of steps) {
        if (inside) {
          answers.push([op, send(client(world, owner), op, tx)]);
        } else {
          const before = JSON.stringify([...model]);
          if (apply(model, id, op) !== send(client(world, id), op)) return false;
          disturbed ||= JSON.stringify([...model]) !== before || (op.verb === 'write' || op.verb === 'setPerms');
        }
      }
      const verdict = client(world, owner).end(tx);
      const alone = clone(model);
      const sameAnswers = answers.every(([op, answer]) => apply(alone, owner, op) === answer);
      if (verdict === OK) {
        committed++;
        if (!sameAnswers) return false;
        t.deepEqual(dump(world), Object.fromEntries(alone));
      } else {
        refused++;
        if (verdict !== 'EAGAIN' || !disturbed) return false;
        t.deepEqual(dump(world), Object.fromEntries(model));
      }
      return accounts(world) && world.store.openTransactions === 0;
    }),
    { numRuns: 600 },
  );
  t.true(committed > 50 && refused > 50, `${committed} committed, ${refused} refused`);
});

test('no payload, of any type, makes the store throw or answer without a reply', (t) => {
  const part = fc.constantFrom('/local/domain/1/a', 'a', '@x', '/', '', 'T', 'n1', 'r2', '5', '-1', '99999999999', 'check', 'quota', 'set', 'nodes');
  const payload = fc.oneof(
    fc.array(part, { maxLength: 4 }).map((parts) => parts.map((text) => `${text}\0`).join('')),
    fc.string({ unit: 'binary-ascii', maxLength: 40 }),
  );
  const message = fc.tuple(domid, fc.integer({ min: 0, max: 30 }), payload, fc.constantFrom(0, 0, 1, 2, 0xffffffff));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 40 }), (messages) => {
      const world = new World();
      for (const [id, type, text, tx] of messages) client(world, id).raw(type, text, tx);
      return world.dom0.ask(XsType.CONTROL, 'check\0') === 'OK\0';
    }),
    { numRuns: 300 },
  );
  t.pass();
});
