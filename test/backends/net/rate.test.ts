import test from 'ava';
import fc from 'fast-check';
import { Credit } from '../../../backends/net/credit.js';
import { defaultMac, parseMac, requireMac } from '../../../backends/net/mac.js';
import { parseRate, requireRate } from '../../../backends/net/rate.js';
import { OperatorError } from '../../../shim/observe/errors.js';

test('E83: only two decimals with a comma between them are a rate, and 0 bytes are none', (t) => {
  t.deepEqual(parseRate('1000,50000'), { bytes: 1000, usec: 50_000 });
  for (const text of ['0,0', '0,50000', 'abc', '5,6x', '5', '5,', ',6', '-5,6', '5,6,7', ' 5,6', '5,6\0', '9'.repeat(20) + ',1']) {
    t.is(parseRate(text), undefined, text);
  }
});

test('an operator spells a rate as in xl, or as the node has it', (t) => {
  t.is(requireRate('8Mb/s'), '50000,50000');
  t.is(requireRate('10MB/s@20ms'), '200000,20000');
  t.is(requireRate('1Gb/s@1s'), '125000000,1000000');
  t.is(requireRate('300000B/s'), '15000,50000');
  t.is(requireRate('1000,50000'), '1000,50000');
  for (const text of ['', '0Mb/s', '10', '10Mb', 'Mb/s', '10Mb/s@5', '10Mb/s@100us', '1,1', '-1Mb/s', '1b/s']) {
    t.is(t.throws(() => requireRate(text), { instanceOf: OperatorError }).code, 'RATE_SYNTAX', text);
  }
});

test('E83: a new rate applies from the moment it is set', (t) => {
  const credit = new Credit();
  t.true(credit.take(60_000, 0));
  t.true(credit.take(60_000, 0));
  credit.limit({ bytes: 1000, usec: 50_000 }, 0);
  t.true(credit.take(1000, 0));
  t.false(credit.take(1, 0));
  t.is(credit.nextAt, 50);
  credit.limit({ bytes: Infinity, usec: 0 }, 10);
  t.true(credit.take(60_000, 10));
});

test('over a long time a limited guest sends what its rate allows, within one burst', (t) => {
  fc.assert(
    fc.property(
      // Above that a refill can meet the ceiling while a packet waits, and the rest of it is lost.
      fc.integer({ min: 100, max: 65_000 }),
      fc.integer({ min: 1000, max: 100_000 }),
      fc.integer({ min: 60, max: 65_535 }),
      (bytes, usec, size) => {
        const credit = new Credit({ bytes, usec });
        const period = Math.floor(usec / 1000);
        const end = Math.max(200 * period, (4 * period * Math.max(size, 131_072)) / bytes);
        let sent = 0;
        for (let now = 0; now <= end; ) {
          if (credit.take(size, now)) {
            sent += size;
          } else {
            t.true(credit.nextAt > now);
            now = credit.nextAt;
          }
        }
        const allowed = bytes * (Math.floor(end / period) + 1);
        return sent <= allowed && sent >= allowed - Math.max(131_072, bytes) - size;
      },
    ),
    { numRuns: 50 },
  );
});

test('credit does not gather beyond the ceiling while a guest is silent', (t) => {
  const credit = new Credit({ bytes: 1000, usec: 1000 });
  let burst = 0;
  while (credit.take(1000, 1e9)) burst += 1000;
  // What was in the bucket, and one refill up to the ceiling.
  t.is(burst, 1000 + 131_000);
});

test('a period below a millisecond limits nothing', (t) => {
  const credit = new Credit({ bytes: 1, usec: 999 });
  for (let i = 0; i < 100; i++) t.true(credit.take(65_535, 0));
});

test('a default address is in the OUI of Xen, differs by link and index, and stays', (t) => {
  const mac = defaultMac('tap=a', 0, 'host');
  t.regex(mac, /^00:16:3e:[0-7][0-9a-f](:[0-9a-f]{2}){2}$/);
  t.is(mac, defaultMac('tap=a', 0, 'host'));
  t.is(new Set([mac, defaultMac('tap=b', 0, 'host'), defaultMac('tap=a', 1, 'host'), defaultMac('tap=a', 0, 'other')]).size, 4);
});

test('an address is six bytes, unicast, not zero', (t) => {
  t.is(parseMac('00:16:3E:aa:bb:CC'), '00:16:3e:aa:bb:cc');
  for (const text of ['', '00:16:3e:aa:bb', '00:16:3e:aa:bb:cc:dd', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00', '0:16:3e:aa:bb:cc', 'xx:16:3e:aa:bb:cc']) {
    t.is(parseMac(text), undefined, text);
  }
  const error = t.throws(() => requireMac('nonsense'), { instanceOf: OperatorError });
  t.is(error.code, 'MAC_SYNTAX');
});
