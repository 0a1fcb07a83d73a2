/** A disk in memory, on the backend kit alone: xenshim run --backend ramdisk.js,vdev=xvdm,mib=64 */
import {
  BackendDevice, BackRing, BLKIF_X86_32, BLKIF_X86_64, BlkifOp, BlkifStatus, createDevice, DeviceMachine, drainEventfd,
  Errno, MAX_SEGMENTS, nextVbd, OperatorError, removeDevice, ringPages, ringSlots, signalEventfd, watchReadable,
  XenbusState, XenError, type Backend, type BackendContext, type DeviceId, type VbdEffect,
} from 'xenshim/backend-kit';

export default function ramDisk({ domid, options, store, ports, gntdev, log }: BackendContext): Backend {
  const [vdev, mib] = [options.get('vdev') ?? 'xvdm', Number(options.get('mib') ?? 64)];
  if (!/^xvd[a-p]$/.test(vdev) || !(Number.isInteger(mib) && mib >= 1 && mib <= 2048)) {
    throw new OperatorError('RAMDISK', `no RAM disk ${vdev} of ${mib} MiB`, 'use vdev=xvda to xvdp, mib=1 to 2048');
  }
  const id: DeviceId = { kind: 'vbd', domid, id: 0xca00 + 16 * (vdev.charCodeAt(3) - 97) };
  const bytes = new Uint8Array(mib * 2 ** 20);
  let device: BackendDevice;
  let machine: DeviceMachine<VbdEffect>;
  let leaving = new AbortController();
  let disconnect = async (): Promise<void> => {};

  async function connect(): Promise<void> {
    const abi = device.frontendKey('protocol') === BLKIF_X86_64.name ? BLKIF_X86_64 : BLKIF_X86_32;
    const ref = device.frontendNumber('ring-ref', 0xffff_ffff);
    const channel = ports.bindInterdomain(domid, device.frontendNumber('event-channel', 0xffff_ffff));
    const { signal } = (leaving = new AbortController());
    let serving: Promise<void> | undefined;
    disconnect = async () => {
      leaving.abort();
      await serving;
      channel.close();
      gntdev.releaseAll();
    };
    const page = await gntdev.map(domid, [ref], { signal });
    if (typeof page === 'number' || signal.aborted) throw new XenError(Errno.EINVAL, `ring-ref ${ref} cannot be mapped`);
    const ring = new BackRing(ringPages(page.buffers), ringSlots(1, abi.slotBytes), abi.slotBytes);
    const request = new Int32Array(abi.slotBytes / 4);
    const serve = async (): Promise<void> => {
      do {
        for (let left = ring.available(); left > 0 && !signal.aborted; left--) {
          ring.copyRequest(0, request.length, request, 0);
          ring.consume();
          const status = await answer(request, abi.idWord, signal);
          const last = (request[0]! & 0xff) | (status << 16);
          ring.respond(abi.responseBytes / 4, request[abi.idWord]!, request[abi.idWord + 1]!, last, 0);
        }
        if (ring.publish()) signalEventfd(channel.callFd);
        // This thread answers the guest's hypercalls, too: they have their turn after each ring full.
        await new Promise(setImmediate);
      } while (!signal.aborted && !ring.halted && ring.finalCheck());
      if (ring.halted) log.warn({ vdev }, 'the frontend overran its ring, which is not served any more');
    };
    const wake = (): void => {
      drainEventfd(channel.kickFd);
      serving ??= serve().finally(() => (serving = undefined));
    };
    signal.addEventListener('abort', watchReadable(channel.kickFd, wake));
    device.publish({ sectors: String(bytes.length / 512), 'sector-size': '512', info: '0', 'feature-flush-cache': '1' });
    wake();
  }

  /** @param request a copy: the ring is the guest's, who can change it at any moment. @returns BLKIF_RSP_* */
  async function answer(request: Int32Array, at: number, signal: AbortSignal): Promise<number> {
    const [op, count] = [request[0]! & 0xff, (request[0]! >>> 8) & 0xff];
    if (op === BlkifOp.FLUSH_DISKCACHE) return BlkifStatus.OKAY;
    if (op !== BlkifOp.READ && op !== BlkifOp.WRITE) return BlkifStatus.EOPNOTSUPP;
    if (count === 0 || count > MAX_SEGMENTS) return BlkifStatus.ERROR;
    const refs = [...request.subarray(at + 4, at + 4 + 2 * count)].filter((_, i) => i % 2 === 0);
    const spans = refs.map((_, i) => request[at + 5 + 2 * i]!).map((word) => [word & 0xff, (word >>> 8) & 0xff] as const);
    if (spans.some(([first, last]) => first > last || last > 7)) return BlkifStatus.ERROR;
    let offset = ((request[at + 2]! >>> 0) + (request[at + 3]! >>> 0) * 2 ** 32) * 512;
    const sectors = spans.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    if (offset + sectors * 512 > bytes.length) return BlkifStatus.ERROR;
    const mapping = await gntdev.map(domid, refs, { readonly: op === BlkifOp.WRITE, signal });
    if (typeof mapping === 'number') return BlkifStatus.ERROR;
    for (const [i, [first, last]] of spans.entries()) {
      const part = mapping.buffers[i]!.subarray(first * 512, (last + 1) * 512);
      if (op === BlkifOp.WRITE) bytes.set(part, offset);
      else part.set(bytes.subarray(offset, offset + part.length));
      offset += part.length;
    }
    return mapping.unmap() === 0 ? BlkifStatus.OKAY : BlkifStatus.ERROR;
  }

  const close = (): void => { removeDevice(store, id); };
  const restart = (): void => {
    createDevice(store, id, { dev: vdev, mode: 'w', 'device-type': 'disk' }, { 'virtual-device': String(id.id), 'device-type': 'disk' });
    device = new BackendDevice(store, id, log);
    device.switchState(XenbusState.InitWait);
    const perform = (effect: VbdEffect): Promise<void> => (effect === 'connect' ? connect() : disconnect());
    machine = new DeviceMachine(device, nextVbd, { perform, failed: () => disconnect(), removed: close });
    machine.start();
  };
  restart();
  const letGo = (): Promise<void> => {
    leaving.abort(); // A connect under way may be waiting for a page.
    return machine.stop().then(() => disconnect());
  };
  return { restart, letGo, close };
}
