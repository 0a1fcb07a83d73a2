import test from 'ava';

interface Result {
  ok: boolean;
  skipped: boolean;
  title: string;
  details: string[];
}
interface Reader {
  passed: number;
  failed: number;
  skipped: number;
  push(chunk: string): void;
  end(status: number): void;
}
interface Tap {
  TapReader: new (report?: (result: Result) => void) => Reader;
  summary(counts: { passed: number; failed: number; skipped: number }): string;
}

// The preparation is plain JavaScript, because it runs before anything is compiled.
const { TapReader, summary } = (await import(new URL('../../../../cli/setup/tap.mjs', import.meta.url).href)) as Tap;

/** Fed one character at a time: chunks of a pipe end anywhere. */
function read(text: string, status: number): { line: string; results: Result[] } {
  const results: Result[] = [];
  const reader = new TapReader((result) => results.push(result));
  for (const character of text) reader.push(character);
  reader.end(status);
  return { line: summary(reader), results };
}

const finish = (count: number, failed: number): string => `\n1..${count}\n# tests ${count}\n# pass 0\n# fail ${failed}\n\n`;

test('tests that pass are counted, and a sum without skipped tests does not speak of them', (t) => {
  t.is(read(`TAP version 13\nok 1 - a\nok 2 - b › c\n${finish(2, 0)}`, 0).line, '2 passed, 0 failed');
});

test('a test that failed is counted once, and its details are shown with it', (t) => {
  const { line, results } = read(`ok 1 - a\nnot ok 2 - b\n  ---\n    message: no\n  ...\nok 3 - c\n${finish(3, 1)}`, 1);
  t.is(line, '2 passed, 1 failed');
  t.deepEqual(results[1], { ok: false, skipped: false, title: 'b', details: ['  ---', '    message: no', '  ...'] });
  t.deepEqual(results[2]!.details, []);
});

test('a test skipped by its declaration or at run time is no test that passed', (t) => {
  const { line } = read(`ok 1 - a # SKIP\nok 2 - b\n#   skipped: no KVM here\nok 3 - c\n#   a note\n${finish(3, 0)}`, 0);
  t.is(line, '1 passed, 0 failed, 2 skipped');
});

test('a test that failed after it said it was skipped has failed', (t) => {
  t.is(read(`not ok 1 - a\n#   skipped: no KVM here\n${finish(1, 1)}`, 1).line, '0 passed, 1 failed');
});

test('a test still to be written counts as failed, as with ava', (t) => {
  t.is(read(`not ok 1 - a # TODO\n${finish(1, 1)}`, 1).line, '0 passed, 1 failed');
});

test('a run that broke off before its plan has failed', (t) => {
  t.is(read('TAP version 13\nok 1 - a\n', 0).line, '1 passed, 1 failed');
});

test('a run that ends with a bad status and no failed test has failed', (t) => {
  t.is(read(`ok 1 - a\n${finish(1, 0)}`, 1).line, '1 passed, 1 failed');
  t.is(read('', 1).line, '0 passed, 1 failed');
});

test('tests that a crash kept from running count as failed', (t) => {
  const { line } = read(`ok 1 - a\nnot ok 2 - b.test.js exited due to SIGSEGV\n${finish(1, 5)}`, 1);
  t.is(line, '1 passed, 5 failed');
});
