/** HYPERVISOR_xen_version: what a guest learns of the hypervisor under it. */
import { Errno } from '../abi/errno.js';
import { Feature, PhysAreaFeature } from '../abi/features.js';
import {
  CapabilitiesInfo,
  ChangesetInfo,
  Commandline,
  CompileInfo,
  DomainHandle,
  ExtraVersion,
  FeatureInfo,
  PlatformParameters32,
  PlatformParameters64,
  XenVersionOp,
} from '../abi/version.js';
import { XEN_VERSION } from '../abi/release.js';
import { HypercallNumber } from '../abi/xen.js';
import { PAGE_SIZE } from '../memory/guest-memory.js';
import { bare, hypercall, operation, refuse, type Fields } from './row.js';

const EXTRA_VERSION = '.0-xenshim';
const CAPABILITIES = 'xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64';

/** Only what is implemented: a guest uses what it finds here. */
export const FEATURES = [
  Feature.writable_page_tables,
  Feature.auto_translated_physmap,
  Feature.hvm_callback_vector,
  Feature.hvm_safe_pvclock,
  Feature.not_direct_mapped,
  PhysAreaFeature.runstate_phys_area,
  PhysAreaFeature.vcpu_time_phys_area,
].reduce((bits: number, feature) => bits | (1 << feature), 0);

/** Where Xen itself lives in a PV guest's address space; an HVM guest learns it too and has no use for it. */
const VIRT_START_64 = 0xffff_8000_0000_0000n;
const VIRT_START_32 = 0xf580_0000;

/** Writes a C string, truncated to leave room for its end. */
function text(view: DataView, at: number, size: number, value: string): void {
  for (let i = 0; i < Math.min(value.length, size - 1); i++) view.setUint8(at + i, value.charCodeAt(i));
}

const string = (command: number, name: string, layout: Fields<never>, value: string) =>
  operation(command, name, { layout, direction: 'out' }, (_call, view) => {
    text(view, 0, layout.SIZE, value);
    return 0;
  });

export const xenVersion = hypercall({
  number: HypercallNumber.xen_version,
  name: 'xen_version',
  operations: [
    bare(XenVersionOp.version, 'version', () => XEN_VERSION),
    string(XenVersionOp.extraversion, 'extraversion', ExtraVersion, EXTRA_VERSION),
    operation(XenVersionOp.compile_info, 'compile_info', { layout: CompileInfo, direction: 'out' }, (_, view, at) => {
      text(view, at.compiler, 64, 'TypeScript');
      text(view, at.compile_by, 16, 'xenshim');
      return 0;
    }),
    string(XenVersionOp.capabilities, 'capabilities', CapabilitiesInfo, CAPABILITIES),
    string(XenVersionOp.changeset, 'changeset', ChangesetInfo, 'unavailable'),
    operation(
      XenVersionOp.platform_parameters,
      'platform_parameters',
      { layouts: { x64: PlatformParameters64, x32: PlatformParameters32 }, direction: 'out' },
      (call, view, at) => {
        if (call.long) view.setBigUint64(at.virt_start, VIRT_START_64, true);
        else view.setUint32(at.virt_start, VIRT_START_32, true);
        return 0;
      },
    ),
    operation(XenVersionOp.get_features, 'get_features', { layout: FeatureInfo, direction: 'inout' }, (_, view, at) => {
      if (view.getUint32(at.submap_idx, true) !== 0) return -Errno.EINVAL;
      view.setUint32(at.submap, FEATURES, true);
      return 0;
    }),
    bare(XenVersionOp.pagesize, 'pagesize', () => PAGE_SIZE),
    operation(XenVersionOp.guest_handle, 'guest_handle', { layout: DomainHandle, direction: 'out' }, (call, view) => {
      call.domain.uuid.forEach((byte, i) => view.setUint8(i, byte));
      return 0;
    }),
    string(XenVersionOp.commandline, 'commandline', Commandline, '<denied>'),
    refuse(XenVersionOp.build_id, 'build_id', Errno.ENODATA, 'there is no hypervisor image that could have one'),
  ],
});
