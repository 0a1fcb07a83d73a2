import test from 'ava';

import { BlkifOp, BlkifStatus, DISCARD_SECURE } from '../../../shim/abi/io/blkif.js';
import { Phase } from '../../../backends/block/phases.js';
import { QueueRig } from './rig.js';

test('a discard is secure if the flag says so and the target can; other bits of the flag mean nothing', (t) => {
  const { DISCARD, SECURE_DISCARD } = Phase;
  for (const [discardSecure, flag, phase] of [
    [true, DISCARD_SECURE, SECURE_DISCARD],
    [true, 0xff, SECURE_DISCARD],
    [true, 0, DISCARD],
    [true, 0xfe, DISCARD],
    [false, DISCARD_SECURE, DISCARD],
    [false, 0xff, DISCARD],
  ] as const) {
    const phases: number[] = [];
    const rig = new QueueRig({ discardSecure, submitted: (each) => phases.push(each) });
    t.is(rig.request({ op: BlkifOp.DISCARD, sector: 8n, sectors: 8n, flag }).status, BlkifStatus.OKAY);
    t.deepEqual(phases, [phase]);
    t.is(rig.close(), 0);
  }
});
