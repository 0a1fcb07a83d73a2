/** public/version.h: XENVER_* and their arguments. */
import { constants } from './constants.js';
import { bytes, struct, u32, u64 } from './struct.js';

const header = 'version.h';

export const XenVersionOp = constants(
  header,
  {
    version: 0,
    extraversion: 1,
    compile_info: 2,
    capabilities: 3,
    changeset: 4,
    platform_parameters: 5,
    get_features: 6,
    pagesize: 7,
    guest_handle: 8,
    commandline: 9,
    build_id: 10,
  },
  'XENVER_',
);

export const CompileInfo = struct(
  { c: 'struct xen_compile_info', header, abi: 'any', size: 144 },
  { compiler: bytes(0, 64), compile_by: bytes(64, 16), compile_domain: bytes(80, 32), compile_date: bytes(112, 32) },
);
export const PlatformParameters64 = struct(
  { c: 'struct xen_platform_parameters', header, abi: 'x86_64', size: 8 },
  { virt_start: u64(0) },
);
export const PlatformParameters32 = struct(
  { c: 'struct xen_platform_parameters', header, abi: 'x86_32', size: 4 },
  { virt_start: u32(0) },
);
export const FeatureInfo = struct(
  { c: 'struct xen_feature_info', header, abi: 'any', size: 8 },
  { submap_idx: u32(0), submap: u32(4) },
);
export const ExtraVersion = struct({ c: 'xen_extraversion_t', header, abi: 'any', size: 16 }, {});
export const CapabilitiesInfo = struct({ c: 'xen_capabilities_info_t', header, abi: 'any', size: 1024 }, {});
export const ChangesetInfo = struct({ c: 'xen_changeset_info_t', header, abi: 'any', size: 64 }, {});
export const Commandline = struct({ c: 'xen_commandline_t', header, abi: 'any', size: 1024 }, {});
/** xen_domain_handle_t (public/xen.h): a UUID. */
export const DomainHandle = struct({ c: 'xen_domain_handle_t', header: 'xen.h', abi: 'any', size: 16 }, {});
