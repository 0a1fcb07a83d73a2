import test from 'ava';
import fc from 'fast-check';
import { MulticastFilter } from '../../../backends/net/multicast.js';
import { VIF_MEMORY_BYTES } from '../../../backends/net/vif-memory.js';
import { NetifExtraType, NetTxFlag } from '../../../shim/abi/io/netif.js';
import { plainFrame } from './frames.js';
import { rigged, type Rig } from './rig.js';

const group = (last: number): Uint8Array => Uint8Array.of(1, 0, 0x5e, 0, 0, last);

function frameTo(address: Uint8Array): Uint8Array {
  const frame = plainFrame(64);
  frame.set(address);
  return frame;
}

/** Whether a frame to that address reaches the frontend. */
function arrives(rig: Rig, address: Uint8Array): boolean {
  rig.front.postRx(1);
  rig.wire.send(frameTo(address));
  rig.settle();
  return rig.front.rxResponses().length === 1;
}

test('a filter passes unicast, broadcast and listed groups, and everything while it is off', (t) => {
  rigged((rig) => {
    const filter = new MulticastFilter(rig.memory);
    const broadcast = new Uint8Array(6).fill(255);
    const unicast = Uint8Array.of(2, 0, 0, 0, 0, 1);
    t.true(arrives(rig, group(7)));
    filter.filtering = true;
    t.false(arrives(rig, group(7)));
    t.true(arrives(rig, broadcast));
    t.true(arrives(rig, unicast));
    rig.front.putTx({ gref: 0, size: 0, flags: NetTxFlag.extra_info });
    rig.front.putExtra({ type: NetifExtraType.MCAST_ADD, body: [...group(7)] });
    rig.front.pushTx();
    rig.settle();
    t.true(arrives(rig, group(7)));
    t.false(arrives(rig, group(8)));
    filter.clear();
    t.false(arrives(rig, group(7)));
    filter.filtering = false;
    t.true(arrives(rig, group(7)));
    t.is(rig.stats.rxDropFiltered, 3);
  });
});

test('the list holds what was added and not removed, entry by entry, never more than 64', (t) => {
  const step = fc.record({ add: fc.boolean(), last: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const filter = new MulticastFilter(new SharedArrayBuffer(VIF_MEMORY_BYTES));
      filter.filtering = true;
      const model: number[] = [];
      for (const { add, last } of steps) {
        if (add) {
          const fits = model.length < 64;
          if (fits) model.push(last);
          if (filter.add(group(last)) !== fits) return false;
        } else {
          const at = model.indexOf(last);
          if (at >= 0) model.splice(at, 1);
          filter.remove(group(last));
        }
      }
      const same = Array.from({ length: 41 }, (_, i) => i).every((last) => filter.wants(group(last), 0) === model.includes(last));
      return same && filter.count === model.length;
    }),
    { numRuns: 200 },
  );
  t.pass();
});
