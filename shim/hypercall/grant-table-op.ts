/** HYPERVISOR_grant_table_op: the operations themselves are shim/grant-table's. */
import { Gnttabop } from '../abi/grant-table.js';
import { HypercallNumber } from '../abi/xen.js';
import type { GrantCaller } from '../grant-table/guest-ops/caller.js';
import { GrantTableOps, runGrantTableCall, type GrantTableCall } from '../grant-table/guest-ops/index.js';
import type { Call } from './call.js';
import { hypercall, refuse, type Operation } from './row.js';
import { Errno } from '../abi/errno.js';

const NOT_FOR_HVM = 'not among the operations Xen lets an HVM guest use';

export const grantTableOp = hypercall({
  number: HypercallNumber.grant_table_op,
  name: 'grant_table_op',
  operations: [
    ...GrantTableOps.map((op): Operation => ({ command: op.cmd, name: op.name, handle: run })),
    ...(['transfer', 'dump_table', 'unmap_and_replace', 'get_status_frames', 'cache_flush'] as const).map((name) =>
      refuse(Gnttabop[name], name, Errno.ENOSYS, NOT_FOR_HVM),
    ),
  ],
});

function* run(call: Call): Generator<void, number, void> {
  const { domain, space } = call;
  const caller: GrantCaller = {
    table: domain.grantTable,
    locateFrame(gfn) {
      const place = domain.p2m.locate(gfn);
      return place && { u8: place.u8, offset: place.at };
    },
    dropStatusFrames: () => domain.physmap.dropStatusFrames(),
    copyIn: (va, into) => space.read(va, into),
    copyOut: (va, from) => space.write(va, from),
  };
  const state: GrantTableCall = {
    cmd: call.u32(0),
    va: call.pointer(1),
    count: call.u32(2),
    wide: call.long,
    next: 0,
  };
  for (;;) {
    const result = runGrantTableCall(caller, state);
    if (result !== undefined) return result;
    yield;
  }
}
