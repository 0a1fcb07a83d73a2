/**
 * What our own code costs per request: ring, checks, grants and response of a disk without a disk, the frontend in the
 * same thread, so that neither waiting nor the traffic between two cores is in the figure.
 */
import '../../../backends/inlining.js';
import { Connection } from '../../../backends/block/connection.js';
import { statisticsBuffer } from '../../../backends/block/statistics.js';
import { NullIo } from '../../../backends/block/target/null-io.js';
import { BlkifOp } from '../../../shim/abi/io/blkif.js';
import { FakeGuest } from '../../helpers/fake-frontend-guest.js';
import { FakeFrontRing } from '../../helpers/fake-frontend-ring.js';
import { median } from '../helpers/native-load.js';
import type { BlockCase } from './cases.js';

const RUNS = 15;
const ROUNDS = 4000;

/** CPU time per request, ns: the median of several runs. */
export function ownCost({ depth }: BlockCase): number {
  const guest = new FakeGuest();
  const ring = new FakeFrontRing(guest);
  const io = new NullIo();
  const target = {
    sectors: 2 ** 31,
    sectorSize: 512,
    physicalSectorSize: 512,
    readonly: false,
    discardGranularity: undefined,
  };
  const connection = new Connection(
    { grants: guest.attached.grants, io, target, statistics: statisticsBuffer(1) },
    'x86_64-abi',
    [{ ringRefs: ring.refs, kickFd: -1, callFd: -1 }],
  );
  const { queue } = connection.queues[0]!;
  const refs = Array.from({ length: depth }, () => guest.grant(guest.page().gfn));
  // Every slot is written by the frontend once; later rounds write only the word that its response has overwritten.
  for (const [i, ref] of refs.entries()) {
    ring.write({ op: BlkifOp.READ, id: BigInt(i), sector: BigInt(8 * i), segments: [{ ref }] });
  }
  const slots = refs.map((_, i) => ring.word(i, 0));
  // Nobody is to be told of the responses.
  const rspEvent = 3;
  const results: number[] = [];
  let prod = 0;
  for (let run = 0; run <= RUNS; run++) {
    let spent = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (const { page, at } of slots) {
        page[at] = BlkifOp.READ | (1 << 8);
        page[at + 1] = 0;
        page[at + 2] = 0;
        page[at + 3] = 0;
      }
      prod = (prod + depth) | 0;
      ring.head[rspEvent] = (prod + 2 ** 30) | 0;
      ring.head[0] = prod;
      const before = process.hrtime.bigint();
      while (queue.take() > 0) {
        io.poll();
        queue.publish();
      }
      spent += Number(process.hrtime.bigint() - before);
      if (queue.inflight !== 0 || ring.head[2] !== prod) throw new Error('a request of the null disk was not answered');
    }
    if (run > 0) results.push(spent / (ROUNDS * depth));
  }
  connection.release();
  guest.close();
  return median(results);
}
