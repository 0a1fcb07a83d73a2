import test from 'ava';
import fc from 'fast-check';

import { XenbusState as S } from '../../../shim/abi/io/xenbus.js';
import type { XenbusState } from '../../../shim/abi/io/xenbus.js';
import { nextVbd } from '../../../shim/xenbus/vbd-states.js';

const states = Object.values(S);
const backend = fc.constantFrom(...states);
const frontend = fc.oneof(fc.constantFrom<number>(...states), fc.integer());

function walk(from: XenbusState, front: number, online: boolean): { state: XenbusState; hops: number; done: boolean } {
  let state = from;
  for (let hops = 0; hops < 8; hops++) {
    const hop = nextVbd(state, front, online);
    if (hop === undefined || hop.fatal !== undefined || hop.remove === true) {
      return { state: hop?.state ?? state, hops, done: true };
    }
    state = hop.state;
  }
  return { state, hops: 8, done: false };
}

test('the table is total and settles after at most one hop, whatever the frontend wrote', (t) => {
  fc.assert(
    fc.property(backend, frontend, fc.boolean(), (back, front, online) => {
      const { hops, done } = walk(back, front, online);
      t.true(done && hops <= 1);
    }),
  );
});

test('every arrival at Connected connects after a disconnect, and nothing else connects', (t) => {
  fc.assert(
    fc.property(backend, frontend, fc.boolean(), (back, front, online) => {
      const hop = nextVbd(back, front, online);
      t.is(hop?.state === S.Connected, hop?.effects.includes('connect') ?? false);
      if (hop?.state === S.Connected) t.deepEqual(hop.effects, ['disconnect', 'connect']);
    }),
  );
});

test('rings are never kept in Closed', (t) => {
  fc.assert(
    fc.property(backend, frontend, fc.boolean(), (back, front, online) => {
      const hop = nextVbd(back, front, online);
      if (hop?.state === S.Closed) t.true(hop.effects.includes('disconnect'));
    }),
  );
});

test('a device is removed exactly when its frontend is gone, or closed after the toolstack said offline', (t) => {
  for (const back of states) {
    for (const front of [...states, -1, 99]) {
      for (const online of [true, false]) {
        const removed = nextVbd(back, front, online)?.remove === true;
        t.is(removed, front === S.Unknown || (front === S.Closed && !online), `${back} ${front} ${online}`);
      }
    }
  }
});

test('a frontend that starts again after a close is offered the disk again', (t) => {
  t.is(nextVbd(S.Closed, S.Initialising, true)?.state, S.InitWait);
  t.is(nextVbd(S.InitWait, S.Initialising, true), undefined);
  t.is(nextVbd(S.Connected, S.Initialising, true), undefined);
});

test('E51: the table: 3 and 4 connect from InitWait, a second one does nothing, 99 is fatal', (t) => {
  for (const front of [S.Initialised, S.Connected]) {
    t.is(nextVbd(S.InitWait, front, true)?.state, S.Connected);
    t.is(nextVbd(S.Connected, front, true), undefined);
  }
  for (const front of [99, -1, S.InitWait, S.Reconfiguring, S.Reconfigured]) {
    const hop = nextVbd(S.InitWait, front, true);
    t.is(hop?.state, S.Closing);
    t.is(hop?.fatal, `saw state ${front} at frontend`);
  }
});
