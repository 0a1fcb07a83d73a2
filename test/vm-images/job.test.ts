import test from 'ava';
import { lastWords } from '../../vm-images/lab/job.js';

test('of a lab host that ended, the line with the kernel’s complaint is told, else the last one', (t) => {
  const panic = '[  339.2] Kernel panic - not syncing: corrupted stack end detected inside scheduler';
  t.is(lastWords(`[   28.6] kvm: Unhandled WRMSR\n${panic}\n[  339.3] Call Trace:\n[  339.4]  </TASK>\n`), panic);
  t.is(lastWords('one\ntwo\n'), 'two');
  t.is(lastWords(''), 'it said nothing');
});
