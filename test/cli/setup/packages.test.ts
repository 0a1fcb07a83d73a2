import test from 'ava';

type Need = { readonly program: string } | { readonly file: string };
interface Packages {
  missing(wanted: Readonly<Record<string, Need>>): string[];
  needs: Readonly<Record<'demo' | 'test', Readonly<Record<string, Need>>>>;
}

const { missing, needs } = (await import(
  new URL('../../../../cli/setup/packages.mjs', import.meta.url).href)) as Packages;

test('a package counts as there when its program or file is, and only then', (t) => {
  t.deepEqual(missing({
    dash: { program: 'sh' },
    nothing: { program: 'no-such-program-of-xenshim' },
    passwd: { file: '/etc/passwd' },
    absent: { file: '/no/such/file' },
  }), ['nothing', 'absent']);
});

test('programs of the administrator are found although an ordinary PATH leaves them out', (t) => {
  const before = process.env['PATH'];
  t.teardown(() => {
    process.env['PATH'] = before;
  });
  process.env['PATH'] = '/no/such/folder';
  t.deepEqual(missing({ login: { program: 'ldconfig' }, dash: { program: 'sh' } }), ['dash']);
});

test('the tests need all that the demo needs', (t) => {
  for (const name of Object.keys(needs.demo)) t.true(Object.hasOwn(needs.test, name), name);
});
