import test from 'ava';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { Guest } from '../../helpers/guest.js';

/** A small generator with a seed, so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const NUMBERS = Object.values(HypercallNumber);
/** Values a careless check gets wrong. */
const EDGES = [0n, 1n, 0x7ff0n, 0x7fffn, 0x8000n, 0xfffn, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn];
const FAR_EDGES = [2n ** 32n, 2n ** 40n, 2n ** 47n, 2n ** 52n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];

for (const seed of [1, 2, 3, 4]) {
  test(`random hypercalls on random memory never hit a bug of ours, and leave a guest that works (seed ${seed})`, async (t) => {
    const guest = new Guest({ ram: [{ gfn: 0, pages: 256 }], vcpus: 2 }).endWith(t);
    const random = generator(seed);
    const value = (): bigint => {
      switch (random(5)) {
        case 0:
          return EDGES[random(EDGES.length)]!;
        case 1:
          return FAR_EDGES[random(FAR_EDGES.length)]!;
        case 2:
          return BigInt(random(64));
        default:
          // Where the random structures are, and sometimes across the end of memory.
          return BigInt(0x8000 + random(256 * 4096 - 0x8000 + 64));
      }
    };
    const ram = guest.bridge.memory.windows[0]!;
    let answered = 0;
    for (let i = 0; i < 4000; i++) {
      for (let word = 0; word < 16; word++) ram.view.setBigUint64(8 * random(256 * 512), value(), true);
      const longMode = random(2) === 0;
      const args = Array.from({ length: 6 }, value);
      if (random(2) === 0) args[0] = BigInt(random(32));
      const number = NUMBERS[random(NUMBERS.length)]!;
      // Shutting down is not a bug, but the end of the game.
      if (number === HypercallNumber.sched_op || number === HypercallNumber.multicall) continue;
      const vcpu = random(2);
      if (guest.bridge.isWaiting(vcpu)) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      void guest.issue(number, args, { vcpu, longMode }).then((result) => {
        answered++;
        t.true(Number.isSafeInteger(result));
      });
    }
    t.true(answered > 100, `${answered} answers`);
    t.deepEqual(guest.lines.filter(({ level }) => level === 'error'), []);
    await guest.bridge.resetMachine();
    t.is(guest.call(HypercallNumber.xen_version, [7]), 4096);
  });
}

test('a page that holds its own pointer, shared_info and a list at once does no harm', async (t) => {
  const guest = new Guest().endWith(t);
  const argument = guest.argument([[0, 2, 0x7ff0], [4, 4, 0], [16, 8, 8]]);
  t.is(guest.call(HypercallNumber.memory_op, [7, argument]), 0, 'shared_info goes where its argument is');
  for (let i = 0; i < 4096; i += 8) guest.at(8 * 4096 + i).setBigUint64(0, BigInt(8 * 4096), true);
  await guest.issue(HypercallNumber.multicall, [8 * 4096, 64]);
  await guest.issue(HypercallNumber.memory_op, [1, 8 * 4096]);
  t.deepEqual(guest.lines.filter(({ level }) => level === 'error'), []);
});
