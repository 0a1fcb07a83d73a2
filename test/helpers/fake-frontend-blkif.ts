/**
 * A block frontend driver: negotiates over the store as Linux's blkfront does, keeps requests in flight, and distrusts
 * its backend as hardened blkfront does (XSA-396, XSA-403): ids must be outstanding, operations must match, grants must
 * be free by the time a response is seen. What it finds is in `complaints`.
 */
import { BLKIF_X86_64, BlkifOp } from '../../shim/abi/io/blkif.js';
import type { BlkifAbi } from '../../shim/abi/io/blkif.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import { parseState } from '../../shim/xenbus/parse.js';
import { backendPath, frontendPath } from '../../shim/xenbus/paths.js';
import type { DeviceId } from '../../shim/xenbus/paths.js';
import type { StoreClient } from '../../shim/xenstore/client.js';
import type { FakeGuest, GuestPage } from './fake-frontend-guest.js';
import { GTF_READING, GTF_WRITING } from './fake-frontend-guest.js';
import type { FakePorts } from './fake-frontend-ports.js';
import { FakeFrontRing, writeIndirect } from './fake-frontend-ring.js';
import type { Request } from './fake-frontend-ring.js';

const WAIT_MS = 10_000;

export interface BlkfrontOptions {
  readonly store: StoreClient;
  readonly guest: FakeGuest;
  readonly ports: FakePorts;
  readonly id: DeviceId;
  readonly abi?: BlkifAbi;
  readonly order?: number;
  readonly queues?: number;
  /** Leaves grants in place, as blkfront does with feature-persistent, and copies through them. */
  readonly persistent?: boolean;
  /** The last word on what is written to the store before Initialised; undefined removes a key. */
  readonly keys?: Readonly<Record<string, string | undefined>>;
}

interface Outstanding {
  readonly op: number;
  readonly refs: readonly number[];
  readonly done: (status: number) => void;
}

interface Queue {
  readonly ring: FakeFrontRing;
  readonly port: number;
  readonly outstanding: Map<bigint, Outstanding>;
  stop: () => void;
}

export class FakeBlkfront {
  readonly complaints: string[] = [];
  readonly #pool: { readonly page: GuestPage; readonly ref: number }[] = [];
  readonly backendPath: string;
  readonly frontendPath: string;
  queues: Queue[] = [];
  #nextId = 1n;

  constructor(private readonly options: BlkfrontOptions) {
    this.backendPath = backendPath(options.id);
    this.frontendPath = frontendPath(options.id);
  }

  backendState(): number {
    return parseState(this.options.store.read(`${this.backendPath}/state`));
  }

  backendKey(key: string): string | undefined {
    return this.options.store.read(`${this.backendPath}/${key}`);
  }

  setState(state: number | string): void {
    this.options.store.write(`${this.frontendPath}/state`, String(state));
  }

  /** Resolves once the backend is in one of the states; rejects after ten seconds. */
  waitBackend(...states: number[]): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        stop();
        reject(new Error(`backend is ${this.backendState()}, not ${states.join(' or ')}`));
      }, WAIT_MS);
      const stop = this.options.store.watch(`${this.backendPath}/state`, () => {
        const state = this.backendState();
        if (!states.includes(state)) return;
        clearTimeout(timer);
        stop();
        resolve(state);
      });
    });
  }

  /** Up to Initialised: rings granted, ports allocated, keys written. */
  async initialise(): Promise<void> {
    const { store, guest, ports, order = 0, queues = 1, abi = BLKIF_X86_64, keys = {} } = this.options;
    this.setState(XenbusState.Initialising);
    await this.waitBackend(XenbusState.InitWait);
    this.queues = Array.from({ length: queues }, () => ({
      ring: new FakeFrontRing(guest, order, abi),
      port: ports.allocate(),
      outstanding: new Map<bigint, Outstanding>(),
      stop: () => {},
    }));
    // What an earlier driver left there goes.
    const written: Record<string, string | undefined> = {
      protocol: abi.name,
      'ring-page-order': order > 0 ? String(order) : undefined,
      'multi-queue-num-queues': queues > 1 ? String(queues) : undefined,
    };
    if (this.options.persistent === true) written['feature-persistent'] = '1';
    for (const [index, { ring, port }] of this.queues.entries()) {
      const prefix = queues > 1 ? `queue-${index}/` : '';
      for (const [page, ref] of ring.refs.entries()) written[`${prefix}ring-ref${order > 0 ? page : ''}`] = String(ref);
      written[`${prefix}event-channel`] = String(port);
    }
    store.transaction((tx) => {
      for (const [key, value] of Object.entries({ ...written, ...keys })) {
        if (value === undefined) tx.remove(`${this.frontendPath}/${key}`);
        else tx.write(`${this.frontendPath}/${key}`, value);
      }
      tx.write(`${this.frontendPath}/state`, String(XenbusState.Initialised));
    });
  }

  async connect(): Promise<void> {
    await this.initialise();
    const state = await this.waitBackend(XenbusState.Connected, XenbusState.Closing);
    if (state !== XenbusState.Connected) throw new Error('backend refused');
    for (const queue of this.queues) {
      queue.stop = this.options.ports.listen(queue.port, () => {
        this.collect(queue);
      });
    }
    this.setState(XenbusState.Connected);
  }

  /** Closing, Closed, and everything taken back. Throws if the backend keeps a ring page. */
  async disconnect(): Promise<void> {
    this.setState(XenbusState.Closing);
    await this.waitBackend(XenbusState.Closing);
    this.setState(XenbusState.Closed);
    await this.waitBackend(XenbusState.Closed);
    this.takeBack();
  }

  /** What a driver does after the backend let go. */
  takeBack(): void {
    for (const queue of this.queues.splice(0)) {
      queue.stop();
      this.collect(queue);
      if (queue.outstanding.size > 0) this.complaints.push(`${queue.outstanding.size} requests were never answered`);
      const stuck = queue.ring.release();
      if (stuck.length > 0) this.complaints.push(`ring grants ${stuck.join()} still in use`);
      this.options.ports.free(queue.port);
    }
    for (const { page, ref } of this.#pool.splice(0)) {
      if (this.options.guest.end(ref)) this.options.guest.freePage(page);
      else this.complaints.push(`persistent grant ${ref} still in use`);
    }
  }

  /** Sends one request; resolves with its status. The refs are checked to be free when the response is seen. */
  send(queueIndex: number, request: Omit<Request, 'id'>, refs: readonly number[]): Promise<number> {
    const queue = this.queues[queueIndex]!;
    if (queue.ring.free === 0) throw new Error('ring full');
    const id = this.#nextId++;
    const op = request.op === BlkifOp.INDIRECT ? request.indirectOp! : request.op;
    return new Promise((done) => {
      queue.outstanding.set(id, { op, refs, done });
      queue.ring.write({ ...request, id });
      if (queue.ring.push()) this.options.ports.send(queue.port);
    });
  }

  /** Reads or writes whole pages: direct up to 11, indirect above. Returns the status. */
  async transfer(write: boolean, sector: number, pages: readonly GuestPage[], queue = 0): Promise<number> {
    const { guest } = this.options;
    if (this.options.persistent === true) return await this.#transferCopied(write, sector, pages, queue);
    const refs = pages.map(({ gfn }) => guest.grant(gfn, write));
    const status = await this.#transferRefs(write, sector, refs, refs, queue);
    for (const ref of refs) guest.end(ref);
    return status;
  }

  /** Through pages that stay granted, for reading and writing alike. */
  async #transferCopied(write: boolean, sector: number, pages: readonly GuestPage[], queue: number): Promise<number> {
    const { guest } = this.options;
    const copies = pages.map(() => {
      const known = this.#pool.pop();
      if (known !== undefined) return known;
      const page = guest.page();
      return { page, ref: guest.grant(page.gfn) };
    });
    if (write) for (const [i, { page }] of copies.entries()) page.u8.set(pages[i]!.u8);
    const status = await this.#transferRefs(write, sector, copies.map(({ ref }) => ref), [], queue);
    if (!write) for (const [i, { page }] of copies.entries()) pages[i]!.u8.set(page.u8);
    this.#pool.push(...copies);
    return status;
  }

  /** @param freed references that must not be in use any more when the response is seen */
  async #transferRefs(
    write: boolean,
    sector: number,
    refs: readonly number[],
    freed: readonly number[],
    queue: number,
  ): Promise<number> {
    const { guest } = this.options;
    const op = write ? BlkifOp.WRITE : BlkifOp.READ;
    const segments = refs.map((ref) => ({ ref }));
    let status: number;
    if (refs.length <= 11) {
      status = await this.send(queue, { op, sector: BigInt(sector), segments }, freed);
    } else {
      const list = guest.page();
      writeIndirect(list.i32, segments);
      const indirectRef = guest.grant(list.gfn, true);
      const request = { op: BlkifOp.INDIRECT, indirectOp: op, sector: BigInt(sector), claim: refs.length, indirectRef };
      status = await this.send(queue, request, [...freed, indirectRef]);
      if (guest.end(indirectRef)) guest.freePage(list);
    }
    return status;
  }

  flush(queue = 0): Promise<number> {
    return this.send(queue, { op: BlkifOp.FLUSH_DISKCACHE }, []);
  }

  discard(sector: number, sectors: number, queue = 0, flag = 0): Promise<number> {
    return this.send(queue, { op: BlkifOp.DISCARD, sector: BigInt(sector), sectors: BigInt(sectors), flag }, []);
  }

  private collect({ ring, outstanding }: Queue): void {
    for (const { id, op, status } of ring.responses()) {
      const request = outstanding.get(id);
      if (request === undefined) {
        this.complaints.push(`response with id ${id}, which is not outstanding`);
        continue;
      }
      outstanding.delete(id);
      if (op !== request.op) this.complaints.push(`response says operation ${op}, the request said ${request.op}`);
      for (const ref of request.refs) {
        if ((this.options.guest.flags(ref) & (GTF_READING | GTF_WRITING)) !== 0) {
          this.complaints.push(`grant ${ref} is still in use after its response`);
        }
      }
      request.done(status);
    }
  }
}
