/** Numbers of shim/abi that are plain objects, and what the headers call them. */
import { Errno } from '../../shim/abi/errno.js';
import { PhysAreaFeature } from '../../shim/abi/features.js';
import { HVM_NR_PARAMS } from '../../shim/abi/hvm-params.js';
import * as blkif from '../../shim/abi/io/blkif.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import * as xs from '../../shim/abi/io/xs_wire.js';
import { MAPIDX_GRANT_TABLE_STATUS } from '../../shim/abi/memory.js';
import { SHUTDOWN_MAX } from '../../shim/abi/sched.js';
import { HVM_START_MAGIC } from '../../shim/abi/start-info.js';
import { SINGLESHOT_FUTURE, VcpuPhysAreaOp } from '../../shim/abi/vcpu.js';
import { Domid, LEGACY_MAX_VCPUS, NR_VIRQS } from '../../shim/abi/xen.js';

export interface UnregisteredConstants {
  readonly header: string;
  readonly prefix: string;
  readonly values: Readonly<Record<string, number>>;
}

/** Leaves out keys that are not the headers'. */
function without(values: Readonly<Record<string, number>>, ...keys: string[]): Record<string, number> {
  return Object.fromEntries(Object.entries(values).filter(([key]) => !keys.includes(key)));
}

const group = (header: string, prefix: string, values: Readonly<Record<string, number>>): UnregisteredConstants => ({
  header,
  prefix,
  values,
});

export const unregistered: readonly UnregisteredConstants[] = [
  group('errno.h', 'XEN_', Errno),
  group('features.h', 'XENFEAT_', PhysAreaFeature),
  group('hvm/params.h', 'HVM_', { NR_PARAMS: HVM_NR_PARAMS }),
  group('io/blkif.h', 'BLKIF_OP_', blkif.BlkifOp),
  group('io/blkif.h', 'BLKIF_RSP_', blkif.BlkifStatus),
  group('io/blkif.h', 'VDISK_', blkif.VdiskInfo),
  group('io/blkif.h', 'BLKIF_MAX_', {
    SEGMENTS_PER_REQUEST: blkif.MAX_SEGMENTS,
    INDIRECT_PAGES_PER_REQUEST: blkif.MAX_INDIRECT_PAGES,
  }),
  group('io/xenbus.h', 'XenbusState', XenbusState),
  group('io/xs_wire.h', 'XS_', xs.XsType),
  group('io/xs_wire.h', 'XENSTORE_SERVER_FEATURE_', without(xs.ServerFeature, 'WATCH_DEPTH')),
  group('io/xs_wire.h', 'XENSTORE_', { ...xs.ConnectionState, RING_SIZE: xs.XENSTORE_RING_SIZE }),
  group('io/xs_wire.h', 'XENSTORE_ERROR_', xs.RingError),
  group('io/xs_wire.h', 'XENSTORE_', {
    PAYLOAD_MAX: xs.XENSTORE_PAYLOAD_MAX,
    ABS_PATH_MAX: xs.XENSTORE_ABS_PATH_MAX,
    REL_PATH_MAX: xs.XENSTORE_REL_PATH_MAX,
  }),
  group('memory.h', '', { XENMAPIDX_grant_table_status: MAPIDX_GRANT_TABLE_STATUS }),
  group('sched.h', 'SHUTDOWN_', { MAX: SHUTDOWN_MAX }),
  group('arch-x86/hvm/start_info.h', 'XEN_', { HVM_START_MAGIC_VALUE: HVM_START_MAGIC }),
  group('vcpu.h', 'VCPUOP_', VcpuPhysAreaOp),
  group('vcpu.h', '', { VCPU_SSHOTTMR_future: SINGLESHOT_FUTURE }),
  group('xen.h', 'DOMID_', without(Domid, 'BACKEND')),
  group('xen.h', '', { NR_VIRQS, XEN_LEGACY_MAX_VCPUS: LEGACY_MAX_VCPUS }),
];

/** Names that came with a later Xen than the oldest headers the tests run against (4.17); checked where they exist. */
export const newer: ReadonlySet<string> = new Set([
  'XENFEAT_runstate_phys_area',
  'XENFEAT_vcpu_time_phys_area',
  'VCPUOP_register_runstate_phys_area',
  'VCPUOP_register_vcpu_time_phys_area',
  'XS_GET_FEATURE',
  'XS_SET_FEATURE',
  'XS_GET_QUOTA',
  'XS_SET_QUOTA',
]);
