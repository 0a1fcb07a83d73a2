import test from 'ava';

import { hostPanic } from '../../vm-images/lab/job.js';

test('a lab host whose kernel has panicked is told from one that ended otherwise', (t) => {
  t.is(
    hostPanic('[  266.3] kvm: kvm [343]: vcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010007) = 0xffff\n' +
      '[  339.249323] Kernel panic - not syncing: corrupted stack end detected inside scheduler\r\n[  339.250191] CPU: 0 UID: 0\n'),
    'Kernel panic - not syncing: corrupted stack end detected inside scheduler',
  );
  t.is(hostPanic('[    1.2] reboot: Power down\n'), undefined);
});

test('a panic that only a guest speaks of is none of the lab host', (t) => {
  t.is(hostPanic('  FAILED console  last: "[    5.7] Kernel panic - not syncing: VFS"\n'), undefined);
});
