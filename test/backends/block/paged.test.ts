/** A whole disk whose guest's data pages are taken away all the time: in io_uring's hands, between requests, on their way in. */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../../kvm/native.js';
import { createFrames } from '../../../shim/memory/frames.js';
import { PAGE_SIZE } from '../../../shim/memory/guest-memory.js';
import { Pager } from '../../../shim/memory/pager.js';
import { FakeGuest, HIGH_GFN, type GuestPage } from '../../helpers/fake-frontend-guest.js';
import { build, startProcess, unavailable } from '../../kvm/pager/guest.js';
import { exercise } from './exercise.js';
import { BlockLab } from './lab.js';

const PAGES = 4096;

let program = '';
const reason = unavailable(() => (program = build('guest.cc')));
if (reason !== undefined) console.log(`disks of a paged guest skipped: ${reason}`);
const paged = reason === undefined ? test.serial : test.serial.skip;

/** A guest of which `resident` pages may be there; what its driver has taken is pinned unless it is let go. */
class PagedGuest extends FakeGuest {
  readonly pager: Pager;
  failures = 0;
  readonly #end: () => void;

  constructor(file: string, resident: number) {
    const frames = createFrames(HIGH_GFN + PAGES);
    super(PAGES, 1, frames);
    const memfd = this.handles.ram[0]!.fd;
    const { child, watch } = startProcess(program, memfd, 2 * PAGES * PAGE_SIZE);
    this.attached.grantTable.countPins();
    const descriptor = openSync(file, 'w+');
    this.pager = new Pager({
      frames: this.attached.memory.frames!,
      handles: frames,
      ram: this.handles.ram,
      watch,
      file: descriptor,
      maxResident: resident * PAGE_SIZE,
      log: { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => ({}) as never },
      failed: () => this.failures++,
    });
    this.#end = () => {
      child.kill('SIGKILL');
      this.pager.close();
      closeSync(descriptor);
      for (const fd of [frames.fd, frames.bell]) native.closeFd(fd);
    };
  }

  get #frames() {
    return this.attached.memory.frames!;
  }

  /** As a driver's page that the processor touches at any time. */
  override pageAt(gfn: number): GuestPage {
    if (!this.#frames.hold(gfn)) throw new Error(`frame ${gfn} does not come`);
    return super.pageAt(gfn);
  }

  override freePage(page: GuestPage): void {
    super.freePage(page);
    this.#frames.letGo(page.gfn);
  }

  loose(pages: readonly GuestPage[]): void {
    for (const { gfn } of pages) this.#frames.letGo(gfn);
  }

  hold(pages: readonly GuestPage[]): void {
    for (const { gfn } of pages) if (!this.#frames.hold(gfn)) throw new Error(`frame ${gfn} does not come`);
  }

  override close(): void {
    this.#end();
    super.close();
  }
}

for (const { name, resident, queues, order } of [
  { name: 'a fifth of the pages there', resident: 128, queues: 1, order: 1 },
  { name: 'as good as none there, four queues', resident: 16, queues: 4, order: 2 },
]) {
  paged(`reads and writes of pages that come and go keep the data right: ${name}`, async (t) => {
    t.timeout(60_000);
    const folder = new BlockLab();
    const guest = new PagedGuest(join(folder.dir, 'pages'), resident);
    const lab = new BlockLab(guest);
    const path = lab.image(32768);
    const model = lab.read(path);
    const backend = lab.backend(path, { maxQueues: 4, queuesPerWorker: 1 });
    const front = lab.front(0, { order, queues });
    await front.connect();
    const loosed = new Set<number>();
    const touch = (pages: readonly GuestPage[], act: () => void): void => {
      guest.hold(pages);
      act();
      guest.loose(pages);
      // What `exercise` takes it holds until it has used it once.
      const fresh = pages.filter(({ gfn }) => !loosed.has(gfn));
      for (const { gfn } of fresh) loosed.add(gfn);
      guest.loose(fresh);
    };
    const evict = setInterval(() => {
      for (const gfn of loosed) guest.pager.out(gfn, 1);
    }, 3);
    t.deepEqual(await exercise(front, lab, model, 120, queues, touch), []);
    clearInterval(evict);
    t.is(await front.flush(), 0);
    t.true(model.equals(lab.read(path)));
    const { evicted, eagain } = guest.pager.stats();
    t.log(`${evicted} evictions, ${eagain} times told to come again`);
    t.true(evicted > 1000, `${evicted} evictions`);
    t.true(eagain > 500, `${eagain} times told to come again`);
    t.is(backend.stats().errors, 0);
    await front.disconnect();
    t.deepEqual(front.complaints, []);
    t.is(guest.failures, 0);
    t.is(await lab.close(), 0);
    await folder.close();
  });
}
