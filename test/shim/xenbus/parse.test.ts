import test from 'ava';
import fc from 'fast-check';

import { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { XenError } from '../../../shim/observe/errors.js';
import { INVALID_STATE, parseDecimal, parseState, requireDecimal } from '../../../shim/xenbus/parse.js';

test('E94: state strings "4\\0junk", "0x4", " 4", "4 ", "04", "-1", "" and 1 KB are invalid, not states', (t) => {
  for (const text of ['4\0junk', '0x4', ' 4', '4 ', '4\n', '04', '+4', '-1', '', '4.0', '4e0', '9'.repeat(1024)]) {
    t.is(parseState(text), INVALID_STATE, JSON.stringify(text.slice(0, 20)));
  }
});

test('a missing state node is Unknown and a plain number is itself', (t) => {
  t.is(parseState(undefined), XenbusState.Unknown);
  t.is(parseState('4'), XenbusState.Connected);
  t.is(parseState('99'), 99);
});

test('a decimal round-trips up to the bound and nothing above it is accepted', (t) => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (value, max) => {
      t.is(parseDecimal(String(value), max), value <= max ? value : undefined);
    }),
  );
});

test('no text makes the parsers throw', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 64 }), (text) => {
      const state = parseState(text);
      t.true(Number.isSafeInteger(state) && state >= INVALID_STATE);
      const value = parseDecimal(text, 0xffffffff);
      t.true(value === undefined || String(value) === text);
    }),
  );
});

test('E52: a numeric key that is missing, garbage, "-1" or huge is a XenError EINVAL', (t) => {
  for (const text of [undefined, 'garbage', '-1', '4294967296', '9'.repeat(400), '', '1 ', '0x10']) {
    const error = t.throws(() => requireDecimal('ring-ref', text, 0xffffffff), { instanceOf: XenError });
    t.is(error.errno, 22);
  }
  t.is(requireDecimal('ring-ref', '4294967295', 0xffffffff), 0xffffffff);
  t.is(requireDecimal('multi-queue-num-queues', undefined, 8, 1), 1);
});
