import test from 'ava';
import { loadManifest, type Manifest } from '../../vm-images/manifest.js';
import { courses } from '../guest/matrix/courses.js';
import { rowName, selectRows, type Selection } from '../guest/matrix/rows.js';

const entry = { title: 'T', image: 'i', kernel: '6', boot: 'kernel' as const, 'lab-cpu': '', vcpus: 1, memory: 64, stress: 1, course: 'linux', usual: false, minutes: 1 };
const image = { title: 'T', suite: 's', recipe: 'r', size: '1G', packages: ['p'], exclude: [] };
const manifest: Manifest = {
  hosts: { new: image, old: image },
  guests: { i: image },
  matrix: {
    one: { ...entry, usual: true, machines: ['pc', 'q35'], hosts: ['new', 'old'] },
    two: { ...entry, machines: ['q35'], hosts: ['new'], steps: ['kernel', 'poweroff'] },
  },
};
const named = (selection: Selection): string[] => selectRows(manifest, selection).map((row) => `${row.host}:${rowName(row)}`);

test('rows are each guest on each of its hosts and machines; the usual ones, all, or those named', (t) => {
  t.deepEqual(named({}), ['new:one-pc', 'new:one-q35', 'old:one-pc', 'old:one-q35']);
  t.deepEqual(named({ all: true }), [...named({}), 'new:two-q35']);
  t.deepEqual(named({ guests: ['two'] }), ['new:two-q35']);
  t.deepEqual(named({ hosts: ['old'], machines: ['pc'] }), ['old:one-pc']);
});

test('native stands for any host, and is taken when it serves and none is named', (t) => {
  t.deepEqual(named({ native: true }), ['native:one-pc', 'native:one-q35']);
  t.deepEqual(named({ hosts: ['native'], guests: ['two'] }), ['native:two-q35']);
  t.deepEqual(named({ native: true, hosts: ['old'], machines: ['q35'] }), ['old:one-q35']);
});

test('a row has the steps of its entry, or all of its course', (t) => {
  const [one] = selectRows(manifest, { guests: ['one'] });
  t.deepEqual(one!.steps, Object.keys(courses['linux']!.titles));
  t.deepEqual(selectRows(manifest, { guests: ['two'] })[0]!.steps, ['kernel', 'poweroff']);
});

test('names that are not there, and selections that leave nothing, are one line each', (t) => {
  t.throws(() => named({ guests: ['three'] }), { code: 'GUEST_UNKNOWN', message: 'there is no guest "three"' });
  t.throws(() => named({ hosts: ['x'] }), { code: 'HOST_UNKNOWN', message: 'there is no host "x"' });
  t.throws(() => named({ machines: ['x'] }), { code: 'MACHINE_UNKNOWN', message: 'there is no machine "x"' });
  t.throws(() => named({ guests: ['two'], machines: ['pc'] }), { code: 'NO_ROWS' });
  t.throws(() => named({ guests: ['two'], hosts: ['old'] }), { code: 'NO_ROWS' });
  const matrix = (more: object): Manifest => ({ ...manifest, matrix: { one: { ...manifest.matrix['one']!, ...more } } });
  t.throws(() => selectRows(matrix({ course: 'x' }), {}), { code: 'MANIFEST', message: /no course "x"/ });
  t.throws(() => selectRows(matrix({ steps: ['x'] }), {}), { code: 'MANIFEST', message: /no step "x"/ });
});

test('every entry of the project’s manifest gives rows', (t) => {
  const rows = selectRows(loadManifest(), { all: true });
  t.deepEqual([...new Set(rows.map(({ guest }) => guest))], Object.keys(loadManifest().matrix));
});
