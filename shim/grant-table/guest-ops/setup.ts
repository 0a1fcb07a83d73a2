/** GNTTABOP_setup_table and GNTTABOP_query_size: the extent of the table. */
import { GnttabQuerySize, GnttabSetupTable32, GnttabSetupTable64, Gntst } from '../../abi/grant-table.js';
import { whichDomain, type GrantCaller } from './caller.js';

/** Frames of a domain other than the caller are not for a guest. */
const REFUSED = { backend: Gntst.permission_denied, unknown: Gntst.bad_domain } as const;

export function setupTable(caller: GrantCaller, view: DataView, at: number, wide: boolean): number {
  const layout = wide ? GnttabSetupTable64 : GnttabSetupTable32;
  const nrFrames = view.getUint32(at + layout.nr_frames, true);
  const domain = whichDomain(caller.table, view.getUint16(at + layout.dom, true));
  const list = wide
    ? view.getBigUint64(at + layout.frame_list, true)
    : BigInt(view.getUint32(at + layout.frame_list, true));
  const status = domain === 'self' ? listFrames(caller, nrFrames, list, wide) : REFUSED[domain];
  view.setInt16(at + layout.status, status, true);
  return 0;
}

function listFrames(caller: GrantCaller, nrFrames: number, list: bigint, wide: boolean): number {
  const { table } = caller;
  if (nrFrames > table.maxFrames) return Gntst.general_error;
  if (nrFrames > table.nrFrames) table.growTo(nrFrames);
  const size = wide ? 8 : 4;
  const bytes = new DataView(new ArrayBuffer(nrFrames * size));
  for (let frame = 0; frame < nrFrames; frame++) {
    // A frame the guest has not placed has no number: -1, INVALID_GFN.
    const gfn = table.gfnOfFrame(frame);
    if (wide) bytes.setBigInt64(frame * size, BigInt(gfn), true);
    else bytes.setInt32(frame * size, gfn | 0, true);
  }
  return caller.copyOut(list, new Uint8Array(bytes.buffer)) ? Gntst.okay : Gntst.bad_virt_addr;
}

export function querySize(caller: GrantCaller, view: DataView, at: number): number {
  const { table } = caller;
  const domain = whichDomain(table, view.getUint16(at + GnttabQuerySize.dom, true));
  if (domain === 'self') {
    view.setUint32(at + GnttabQuerySize.nr_frames, table.nrFrames, true);
    view.setUint32(at + GnttabQuerySize.max_nr_frames, table.maxFrames, true);
  }
  view.setInt16(at + GnttabQuerySize.status, domain === 'self' ? Gntst.okay : REFUSED[domain], true);
  return 0;
}
