/** A domain whose memory is paged, with a process that stands for QEMU. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../../kvm/native.js';
import { Errno } from '../../../shim/abi/errno.js';
import { ShutdownReason } from '../../../shim/abi/sched.js';
import { VcpuOp } from '../../../shim/abi/vcpu.js';
import { XenVersionOp } from '../../../shim/abi/version.js';
import { HypercallNumber } from '../../../shim/abi/xen.js';
import { startPaging } from '../../../shim/domain/paging.js';
import { FrameState } from '../../../shim/memory/frames.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { eventually, Guest } from '../../helpers/guest.js';
import { build, startProcess, unavailable } from '../../kvm/pager/guest.js';

const PAGES = 1024;
/** Any frame the pager looks after: those of the first MiB stay. */
const FRAME = 400;

let program = '';
const reason = unavailable(() => (program = build('guest.cc')));
if (reason !== undefined) console.log(`paged domains skipped: ${reason}`);
const paged = reason === undefined ? test.serial : test.serial.skip;

function start(t: ExecutionContext) {
  const guest = new Guest({ ram: [{ gfn: 0, pages: PAGES }] });
  const process = startProcess(program, guest.bridge.ramRanges()[0]!.fd, PAGES * PAGE_SIZE);
  Object.assign(guest.bridge, { watchRam: () => process.watch });
  const folder = mkdtempSync(join(tmpdir(), 'xenshim-paged-'));
  const file = openSync(join(folder, 'pages'), 'w+');
  // The guest has used its memory: what nobody has touched needs no page file.
  for (let frame = 0; frame < PAGES; frame++) guest.at(frame * PAGE_SIZE).setUint32(64, frame + 1, true);
  const pager = startPaging(guest.domain, {
    file,
    maxResident: PAGES * PAGE_SIZE,
    log: guest.domain.log,
    failed: () => guest.domain.shutdown(ShutdownReason.crash),
  });
  t.teardown(() => {
    process.child.kill('SIGKILL');
    pager.close();
    guest.bridge.close();
    guest.domain.close();
    closeSync(file);
    rmSync(folder, { recursive: true });
  });
  return { guest, pager, file, child: process.child, frames: guest.domain.p2m.frames };
}

paged('a hypercall whose argument is paged out is answered as if it were there', (t) => {
  const { guest, pager, frames } = start(t);
  t.is(pager.out(FRAME, 1), 1);
  t.is(frames.state(FRAME), FrameState.PAGED);
  t.is(guest.call(HypercallNumber.xen_version, [XenVersionOp.extraversion, FRAME * PAGE_SIZE]), 0);
  t.is(frames.state(FRAME), FrameState.RAM);
  t.is(guest.at(FRAME * PAGE_SIZE).getUint32(64, true), FRAME + 1, 'what was there beside the result');
  t.not(guest.at(FRAME * PAGE_SIZE).getUint8(0), 0);
});

paged('what the kernel writes to by itself stays in memory, until the guest moves it', (t) => {
  const { guest, pager } = start(t);
  const info = guest.argument([[0, 8, FRAME], [8, 4, 0]]);
  // Out while it is registered: it is brought in first.
  t.is(pager.out(FRAME, 1), 1);
  t.is(guest.call(HypercallNumber.vcpu_op, [VcpuOp.register_vcpu_info, 0, info]), 0);
  t.is(pager.out(FRAME, 1), -Errno.EBUSY);
  const area = guest.argument([[0, 8, (FRAME + 1) * PAGE_SIZE - 8]], 1);
  t.is(guest.call(HypercallNumber.vcpu_op, [VcpuOp.register_runstate_memory_area, 0, area]), 0);
  t.is(pager.out(FRAME + 1, 1), -Errno.EBUSY, 'an area over two pages keeps both');
  const elsewhere = guest.argument([[0, 8, (FRAME + 5) * PAGE_SIZE]], 1);
  t.is(guest.call(HypercallNumber.vcpu_op, [VcpuOp.register_runstate_memory_area, 0, elsewhere]), 0);
  t.is(pager.out(FRAME + 1, 1), 1);
  t.is(pager.out(FRAME + 5, 1), -Errno.EBUSY);
});

paged('E28: a pager that fails while a vCPU waits crashes the guest with one line, and nothing else', async (t) => {
  const { guest, pager, file, child, frames } = start(t);
  t.is(pager.out(FRAME, 2), 2);
  ftruncateSync(file, 0);
  child.stdin!.write(`check ${FRAME} 1\n`);
  t.true(await eventually(() => guest.domain.shutdownReason !== undefined));
  t.is(guest.domain.shutdownReason, ShutdownReason.crash);
  t.is(guest.lines.filter(({ level }) => level === 'error').length, 1);
  t.regex(guest.lines.find(({ level }) => level === 'error')!.message, /cannot be brought back/);
  t.is(frames.state(FRAME), FrameState.PAGED, 'no byte has come');
  // A hypercall does not wait for ever for what cannot come.
  t.is(guest.call(HypercallNumber.xen_version, [XenVersionOp.extraversion, (FRAME + 1) * PAGE_SIZE]), -Errno.EFAULT);
  t.is(native.userfaultfdProblem(), 0);
});
