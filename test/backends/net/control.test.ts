import test from 'ava';
import fc from 'fast-check';
import { ControlRequests } from '../../../backends/net/control-requests.js';
import { HashSettings } from '../../../backends/net/hash-settings.js';
import { VIF_MEMORY_BYTES } from '../../../backends/net/vif-memory.js';
import { NetifCtrlStatus, NetifCtrlType } from '../../../shim/abi/io/netif.js';
import { Sring } from '../../../shim/abi/io/ring.js';
import { FakeNetfront, TX_BUFFER_REF } from './fake-netfront.js';
import { until, VifLab } from './vif-lab.js';

const { SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER } = NetifCtrlStatus;
const Type = NetifCtrlType;
const MAX_U32 = 0xffffffff;
const QUEUES = 4;

interface Bench {
  readonly requests: ControlRequests;
  readonly settings: HashSettings;
  readonly front: FakeNetfront;
}

function withRequests(body: (bench: Bench) => void): void {
  const front = new FakeNetfront();
  const settings = new HashSettings(new SharedArrayBuffer(VIF_MEMORY_BYTES));
  try {
    body({ front, settings, requests: new ControlRequests(settings, front.guest.grants, QUEUES) });
  } finally {
    front.close();
  }
}

/** Entries in the page of the first transmit buffer. */
function write(front: FakeNetfront, queues: readonly number[]): void {
  const page = front.txBuffer(0);
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  queues.forEach((queue, i) => {
    view.setUint32(i * 4, queue, true);
  });
}

test('E87: a key of 41 bytes is invalid, one of 40 is taken, and the tail of a shorter one is zero', (t) => {
  withRequests(({ requests, settings, front }) => {
    front.txBuffer(0).fill(0xab);
    t.is(requests.handle(Type.SET_HASH_KEY, TX_BUFFER_REF, 41, 0), INVALID_PARAMETER);
    t.deepEqual([...settings.key], new Array<number>(40).fill(0));
    t.is(requests.handle(Type.SET_HASH_KEY, TX_BUFFER_REF, 40, 0), SUCCESS);
    t.deepEqual([...settings.key], new Array<number>(40).fill(0xab));
    t.is(requests.handle(Type.SET_HASH_KEY, TX_BUFFER_REF, 3, 0), SUCCESS);
    t.deepEqual([...settings.key.slice(0, 5)], [0xab, 0xab, 0xab, 0, 0]);
    t.is(requests.handle(Type.SET_HASH_KEY, 511, 40, 0), INVALID_PARAMETER);
    t.is(settings.key[0], 0xab);
    t.is(requests.handle(Type.SET_HASH_KEY, 511, 0, 0), SUCCESS);
    t.is(requests.handle(Type.SET_HASH_KEY, MAX_U32, MAX_U32, 0), INVALID_PARAMETER);
  });
});

test('E87: a mapping beyond 128 entries, beyond its size, or to a queue there is not, is invalid and changes nothing', (t) => {
  withRequests(({ requests, settings, front }) => {
    t.is(requests.handle(Type.SET_HASH_MAPPING_SIZE, 129, 0, 0), INVALID_PARAMETER);
    t.is(requests.handle(Type.SET_HASH_MAPPING_SIZE, 128, 0, 0), SUCCESS);
    write(front, Array.from({ length: 128 }, (_, i) => i % QUEUES));
    const set = (length: number, offset: number): number => requests.handle(Type.SET_HASH_MAPPING, TX_BUFFER_REF, length, offset);
    t.is(set(128, 0), SUCCESS);
    t.is(settings.queue(127), 3);
    for (const [length, offset] of [[129, 0], [128, 1], [1, 128], [1, MAX_U32], [MAX_U32, 1], [2, MAX_U32], [1025, 0]] as const) {
      t.is(set(length, offset), INVALID_PARAMETER, `${length} at ${offset}`);
    }
    write(front, [0, 1, QUEUES, 3]);
    t.is(set(4, 0), INVALID_PARAMETER);
    t.is(settings.queue(2), 2);
    write(front, [3, MAX_U32]);
    t.is(set(2, 10), INVALID_PARAMETER);
    t.is(set(1, 10), SUCCESS);
    t.deepEqual([settings.queue(10), settings.queue(11)], [3, 3]);
    t.is(requests.handle(Type.SET_HASH_MAPPING_SIZE, 64, 0, 0), SUCCESS);
    t.is(settings.queue(10), 0);
    t.is(set(1, 64), INVALID_PARAMETER);
  });
});

test('E87: types of static grants and unknown ones are not supported', (t) => {
  withRequests(({ requests }) => {
    for (const type of [0, 8, 9, 10, 11, 99, 0xffff]) t.is(requests.handle(type, 1, 2, 3), NOT_SUPPORTED, String(type));
  });
});

test('algorithm and flags are taken as Linux takes them', (t) => {
  withRequests(({ requests, settings }) => {
    t.is(requests.handle(Type.GET_HASH_FLAGS, 0, 0, 0), NOT_SUPPORTED);
    t.is(requests.handle(Type.SET_HASH_FLAGS, 1, 0, 0), INVALID_PARAMETER);
    t.is(requests.handle(Type.SET_HASH_ALGORITHM, 2, 0, 0), INVALID_PARAMETER);
    t.is(requests.handle(Type.SET_HASH_ALGORITHM, 1, 0, 0), SUCCESS);
    t.is(requests.handle(Type.GET_HASH_FLAGS, 0, 0, 0), SUCCESS);
    t.is(requests.data, 15);
    t.is(requests.handle(Type.SET_HASH_FLAGS, 16, 0, 0), INVALID_PARAMETER);
    t.is(requests.handle(Type.SET_HASH_FLAGS, 5, 0, 0), SUCCESS);
    t.is(settings.flags, 5);
    t.is(requests.handle(Type.GET_HASH_MAPPING_SIZE, 0, 0, 0), SUCCESS);
    t.is(requests.data, 128);
  });
});

test('random requests never throw, and never leave a queue in the mapping that there is not', (t) => {
  withRequests(({ requests, settings, front }) => {
    const word = fc.oneof(fc.nat(200), fc.constantFrom(MAX_U32, 0x80000000, TX_BUFFER_REF));
    fc.assert(
      fc.property(fc.nat(12), word, word, word, fc.nat(6), (type, a, b, c, entry) => {
        write(front, new Array<number>(130).fill(entry));
        const status = requests.handle(type, a, b, c);
        const mapping = Array.from({ length: 128 }, (_, i) => settings.queue(i));
        return status >= 0 && status <= 3 && mapping.every((queue) => queue < QUEUES) && settings.mappingSize <= 128;
      }),
      { numRuns: 500 },
    );
    t.pass();
  });
});

/** A frontend's control ring, one request at a time. */
class ControlFront {
  #index = 0;

  constructor(readonly lab: VifLab) {
    lab.front.control.setUint32(Sring.rsp_event, 1, true);
  }

  async ask(type: number, ...data: number[]): Promise<{ status: number; data: number; type: number; id: number }> {
    const page = this.lab.front.control;
    const at = Sring.ring + (this.#index & 127) * 16;
    page.setUint16(at, this.#index, true);
    page.setUint16(at + 2, type, true);
    for (let i = 0; i < 3; i++) page.setUint32(at + 4 + i * 4, data[i] ?? 0, true);
    this.#index++;
    page.setUint32(Sring.req_prod, this.#index, true);
    this.lab.ports.send(this.lab.controlPort);
    await until(() => page.getUint32(Sring.rsp_prod, true) === this.#index);
    return {
      id: page.getUint16(at, true),
      type: page.getUint16(at + 2, true),
      status: page.getUint32(at + 4, true),
      data: page.getUint32(at + 8, true),
    };
  }
}

test('a control ring answers in its own thread, and settings are gone with the connection', async (t) => {
  const lab = new VifLab({ queues: 2 });
  await lab.connect({ control: true });
  t.is(lab.ports.bound, 3);
  const front = new ControlFront(lab);
  for (let i = 0; i < 300; i++) {
    const answer = await front.ask(Type.GET_HASH_MAPPING_SIZE);
    if (answer.status !== SUCCESS || answer.data !== 128 || answer.type !== 4 || answer.id !== i) t.fail(`answer ${i}`);
  }
  t.is((await front.ask(Type.SET_HASH_ALGORITHM, 1)).status, SUCCESS);
  t.is((await front.ask(Type.GET_HASH_FLAGS)).status, SUCCESS);
  await lab.disconnect();
  t.is(lab.pins(), 0);
  t.is(lab.ports.bound, 0);
  await lab.connect({ control: true });
  t.is((await new ControlFront(lab).ask(Type.GET_HASH_FLAGS)).status, NOT_SUPPORTED);
  t.is(await lab.close(), 0);
});

test('E100: a control request index that jumps by 2^31 makes the ring dead without a spin, and the vif goes on', async (t) => {
  const lab = new VifLab();
  await lab.connect({ control: true });
  lab.front.control.setUint32(Sring.req_prod, 0x80000000, true);
  lab.ports.send(lab.controlPort);
  await until(() => lab.messages.some((message) => message.includes('control ring disabled')));
  t.is(lab.front.control.getUint32(Sring.rsp_prod, true), 0);
  for (let i = 0; i < 100; i++) lab.ports.send(lab.controlPort);
  lab.front.postRx(1);
  lab.wire.send(new Uint8Array(100));
  await until(() => lab.front.rxResponses().length === 1);
  await lab.disconnect();
  await lab.connect({ control: true });
  t.is((await new ControlFront(lab).ask(Type.GET_HASH_MAPPING_SIZE)).status, SUCCESS);
  t.is(await lab.close(), 0);
});

test('E57: a control ring attached with more requests than slots fails the connection, and nothing stays pinned', async (t) => {
  const lab = new VifLab();
  await lab.backendState(2);
  lab.offer({ control: true });
  lab.front.control.setUint32(Sring.req_prod, 129, true);
  await until(() => lab.error !== undefined);
  t.regex(lab.error!, /^5 control ring/);
  await lab.backendState(5);
  t.is(lab.pins(), 0);
  t.is(lab.ports.bound, 0);
  t.is(await lab.close(), 0);
});

test('with a hash set, frames reach the queue its mapping names, whichever queue of the link brought them', async (t) => {
  const lab = new VifLab({ queues: 4 });
  await lab.connect({ control: true });
  const control = new ControlFront(lab);
  lab.front.txBuffer(0).set(Uint8Array.from({ length: 40 }, (_, i) => i * 7 + 3));
  await control.ask(Type.SET_HASH_ALGORITHM, 1);
  await control.ask(Type.SET_HASH_FLAGS, 2);
  await control.ask(Type.SET_HASH_KEY, TX_BUFFER_REF, 40);
  for (const wanted of [3, 1, 0, 2]) {
    await control.ask(Type.SET_HASH_MAPPING_SIZE, 1);
    write(lab.front, [wanted]);
    t.is((await control.ask(Type.SET_HASH_MAPPING, TX_BUFFER_REF, 1, 0)).status, SUCCESS);
    for (const queue of lab.front.queues) queue.postRx(8);
    for (const wire of lab.link.wires) wire.send(new Uint8Array(200).fill(wanted));
    const counts = [0, 0, 0, 0];
    await until(() => {
      lab.front.queues.forEach((queue, i) => {
        const responses = queue.rxResponses();
        counts[i]! += responses.filter(({ status }) => status === 200).length;
      });
      return counts.reduce((sum, count) => sum + count) === 4;
    }, () => `${counts.join()} of queue ${wanted}`);
    t.deepEqual(counts, [0, 1, 2, 3].map((i) => (i === wanted ? 4 : 0)));
  }
  t.is(lab.backend.stats().rxDropHandover, 0);
  t.is(await lab.close(), 0);
});
