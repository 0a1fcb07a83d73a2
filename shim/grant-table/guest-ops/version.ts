/** GNTTABOP_set_version and GNTTABOP_get_version. */
import { Errno } from '../../abi/errno.js';
import { GnttabGetVersion, GnttabSetVersion } from '../../abi/grant-table.js';
import { whichDomain, type GrantCaller } from './caller.js';

/** The version in force is written back whatever the result. */
export function setVersion(caller: GrantCaller, view: DataView, at: number): number {
  const { table } = caller;
  const version = view.getUint32(at + GnttabSetVersion.version, true);
  const result = change(caller, version);
  view.setUint32(at + GnttabSetVersion.version, table.version, true);
  return result;
}

function change(caller: GrantCaller, version: number): number {
  const { table } = caller;
  if (version !== 1 && version !== 2) return -Errno.EINVAL;
  if (version > table.maxVersion) return -Errno.ENOSYS;
  const result = table.setVersion(version);
  if (result === 0 && version === 1) caller.dropStatusFrames();
  return result;
}

export function getVersion(caller: GrantCaller, view: DataView, at: number): number {
  const domain = whichDomain(caller.table, view.getUint16(at + GnttabGetVersion.dom, true));
  if (domain === 'unknown') return -Errno.ESRCH;
  if (domain === 'backend') return -Errno.EPERM;
  view.setUint32(at + GnttabGetVersion.version, caller.table.version, true);
  return 0;
}
