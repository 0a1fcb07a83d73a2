/** The control ring of a vif and the loop of its thread: a few requests while a frontend starts, then sleep. */
import { Errno } from '../../shim/abi/errno.js';
import { NETIF_CTRL_RING_SIZE, NetifCtrlRequest } from '../../shim/abi/io/netif.js';
import type { ForeignGrants } from '../../shim/grant-table/foreign.js';
import { Doorbell } from '../../shim/io/doorbell.js';
import { signalEventfd } from '../../shim/io/eventfd.js';
import { IoUring } from '../../shim/io/uring.js';
import { XenError } from '../../shim/observe/errors.js';
import { BackRing } from '../../shim/ring/back-ring.js';
import type { Control } from '../worker-host.js';
import { ControlRequests } from './control-requests.js';
import { HashSettings } from './hash-settings.js';
import type { ControlConnect } from './messages.js';
import { mapRingPage } from './ring-page.js';

const WORDS = NetifCtrlRequest.SIZE / 4;
/** Events without requests in a row before the bell is left unheard for a while, and the longest while, ms (XSA-332). */
const SPURIOUS_LIMIT = 16;
const MAX_MUTE_MS = 1000;

const Kind = Object.freeze({ KICK: 1, BELL: 2, CANCEL: 3 });

export interface ControlRingOptions {
  readonly grants: ForeignGrants;
  readonly control: Control;
  /** Settings shared with the queues. */
  readonly memory: SharedArrayBuffer;
  readonly params: ControlConnect;
  /** The frontend's index cannot be right: nothing is answered any more. */
  dead(): void;
}

export class ControlRing {
  readonly #options: ControlRingOptions;
  readonly #ring: BackRing;
  readonly #requests: ControlRequests;
  readonly #uring = new IoUring(8, 64);
  readonly #kick: Doorbell;
  readonly #bell: Doorbell;
  readonly #slot = new Int32Array(WORDS);
  readonly #undo: (() => void)[] = [];
  #dead = false;
  #rung = false;
  #spurious = 0;
  #muted = 0;

  /** @throws XenError when the ring page cannot be mapped or its index is impossible */
  constructor(options: ControlRingOptions) {
    const { grants, memory, params, control } = options;
    this.#options = options;
    this.#undo.push(() => {
      this.#uring.close();
    });
    try {
      const page = mapRingPage(grants, 'control', params.ref, this.#undo);
      this.#ring = new BackRing([page], NETIF_CTRL_RING_SIZE, NetifCtrlRequest.SIZE);
      if (this.#ring.halted) throw new XenError(Errno.EIO, 'control ring: more requests than slots');
    } catch (error) {
      this.close();
      throw error;
    }
    this.#requests = new ControlRequests(new HashSettings(memory), grants, params.queues);
    this.#kick = new Doorbell(this.#uring, params.kick, 0, Kind.KICK);
    this.#bell = new Doorbell(this.#uring, control.fd, 0, Kind.BELL);
  }

  /** Runs until the main thread wants something. */
  run(): void {
    while (!this.#options.control.wanted()) this.#turn();
  }

  /** Answers what there is; returns how many requests. */
  serve(): number {
    const ring = this.#ring;
    const waiting = ring.available();
    if (waiting <= 0) return 0;
    const slot = this.#slot;
    const requests = this.#requests;
    for (let i = 0; i < waiting; i++) {
      ring.copyRequest(0, WORDS, slot, 0);
      ring.consume();
      const head = slot[0]!;
      const status = requests.handle(head >>> 16, slot[1]! >>> 0, slot[2]! >>> 0, slot[3]! >>> 0);
      ring.setResponseWord(0, head);
      ring.setResponseWord(1, status);
      ring.setResponseWord(2, requests.data);
      ring.pushResponse();
    }
    if (ring.publish()) signalEventfd(this.#options.params.call);
    return waiting;
  }

  close(): void {
    for (const step of this.#undo.splice(0).reverse()) step();
  }

  #turn(): void {
    const served = this.serve();
    this.#judge(served > 0);
    if (served > 0) return;
    if (this.#ring.halted) this.#die();
    else if (this.#muted === 0) this.#kick.arm();
    this.#bell.arm();
    // The next turn serves what has just come, or finds the ring dead.
    if (this.#options.control.wanted() || (!this.#dead && this.#ring.finalCheck())) return;
    this.#uring.enter(1, this.#muted > 0 ? this.#muted * 1000 : -1);
    this.#muted = 0;
    this.#reap();
  }

  #die(): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#kick.cancel(0, Kind.CANCEL);
    this.#options.dead();
  }

  #reap(): void {
    const uring = this.#uring;
    const count = uring.completions();
    for (let i = 0; i < count; i++) {
      const kind = uring.userHi(i);
      if (kind === Kind.KICK && this.#kick.completed(uring.flags(i), uring.result(i))) this.#rung = true;
      if (kind === Kind.BELL) this.#bell.completed(uring.flags(i), uring.result(i));
    }
    uring.consume(count);
  }

  #judge(worked: boolean): void {
    if (worked) this.#spurious = 0;
    if (!this.#rung) return;
    this.#rung = false;
    if (worked || ++this.#spurious < SPURIOUS_LIMIT) return;
    this.#muted = Math.min(2 ** (this.#spurious - SPURIOUS_LIMIT), MAX_MUTE_MS);
    this.#kick.cancel(0, Kind.CANCEL);
  }
}
