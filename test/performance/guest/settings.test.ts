import test from 'ava';
import { perOperation } from './counters.js';
import { parseSettings, settingWords } from './settings.js';

test('Guest benchmark: settings survive the way to the host as words of a command line', (t) => {
  const settings = {
    rounds: 5, seconds: 2, warmUp: 0, cases: ['qd32', 'tcp'], counters: true, nodeOptions: ['--max-lazy'], diskOptions: ',direct,queues=1',
  };
  t.deepEqual(parseSettings(settingWords(settings)), settings);
  t.deepEqual(parseSettings([]).cases, []);
});

test('Guest benchmark: counters are shown for each operation, as far as they have moved', (t) => {
  const before = new Map([['exits', 100], ['still', 7]]);
  const after = new Map([['exits', 300], ['still', 7], ['new thread', 50]]);
  t.deepEqual(perOperation(before, after, 100).map((line) => line.trim()), ['2.000 exits', '0.500 new thread']);
});
