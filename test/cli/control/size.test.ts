import test from 'ava';

import { formatSize, parseDiskSize } from '../../../cli/control/size.js';
import { refused } from '../refused.js';

test('a size has units of 1024, and a plus sign means more', (t) => {
  t.deepEqual(parseDiskSize('10G'), { bytes: 10 * 2 ** 30, relative: false });
  t.deepEqual(parseDiskSize('+5g'), { bytes: 5 * 2 ** 30, relative: true });
  t.deepEqual(parseDiskSize('1.5K'), { bytes: 1536, relative: false });
  t.deepEqual(parseDiskSize('512'), { bytes: 512, relative: false });
  for (const text of ['', 'G', '-1G', '1GiB', '1e3', '++1', '0x10', '9999999P', '1 G']) {
    refused(t, 'USAGE', () => parseDiskSize(text));
  }
});

test('a size for people is what was meant', (t) => {
  t.deepEqual([0, 512, 1536, 2 ** 30, 1.25 * 2 ** 40].map(formatSize), ['0 B', '512 B', '1.5 KiB', '1 GiB', '1.3 TiB']);
});
