import test from 'ava';
import { failures, junit, resultTable, withoutReport, type RowResult } from '../guest/matrix/result.js';
import { selectRows } from '../guest/matrix/rows.js';
import { loadManifest } from '../../vm-images/manifest.js';

const step = (name: string, ok: boolean, detail: string) => ({ name, ok, seconds: 1.5, detail });
const good: RowResult = {
  guest: 'one', host: 'new', machine: 'q35', ok: true, seconds: 61.4, kernel: '6.12.1', attempts: 1,
  steps: [step('kernel', true, 'fine')],
};
const failed: RowResult = {
  ...good, guest: 'two', ok: false, seconds: 7, steps: [...good.steps, step('disk', false, 'said "<&>"\n\u001b[0m\u0000')],
};

test('the table has a line for each row, says what failed, and that a guest was booted again', (t) => {
  t.is(resultTable([good, failed, { ...good, guest: 'three', attempts: 2 }]), [
    '| guest | host | machine | kernel | ok          | seconds |',
    '| ----- | ---- | ------- | ------ | ----------- | ------- |',
    '| one   | new  | q35     | 6.12.1 | yes         | 61      |',
    '| two   | new  | q35     | 6.12.1 | no: disk    | 7       |',
    '| three | new  | q35     | 6.12.1 | yes, boot 2 | 61      |',
    '',
  ].join('\n'));
});

test('JUnit: a suite for each row, a case for each step, and whatever a guest printed is well-formed XML', (t) => {
  const xml = junit([good, failed]);
  t.is(xml.match(/<testsuite /g)?.length, 2);
  t.is(xml.match(/<testcase /g)?.length, 3);
  t.true(xml.includes('name="two.new.q35" tests="2" failures="1" time="7"'));
  t.true(xml.includes('<failure message="said &quot;&lt;&amp;&gt;&quot;&#10;?[0m?"/>'), xml);
});

test('a row that never ran has all its steps failed, for the reason given', (t) => {
  const [row] = selectRows(loadManifest(), { guests: ['trixie-large'] });
  const result = withoutReport(row!, 'no image');
  t.false(result.ok);
  t.deepEqual(result.steps.map(({ ok, detail }) => [ok, detail]), row!.steps.map(() => [false, 'no image']));
  t.true(resultTable([result]).includes('| no: all of it |'));
  t.deepEqual(failures([good, result, failed]), [
    `trixie-large on q35, trixie: ${row!.steps.join(', ')}: no image`,
    'two on q35, new: disk: said "<&>"\n\u001b[0m\u0000',
  ]);
});
