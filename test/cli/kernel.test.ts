import test from 'ava';
import { tapsWait } from '../../cli/check/kernel.js';

test('taps serve network interfaces from Linux 6.4 on', (t) => {
  for (const release of ['5.19.0', '6.1.0-50-amd64', '6.3.13']) t.true(tapsWait(release), release);
  for (const release of ['6.4.0', '6.12.107+deb13-amd64', '6.10', '7.0.0']) t.false(tapsWait(release), release);
});
