/** As much TCP as it takes to send one unsegmented frame over a vif: connects, sends, and hears what has arrived. */
import { NetTxFlag } from '../../../shim/abi/io/netif.js';
import { gsoExtra } from './fake-netfront.js';
import { referenceSum } from './frames.js';
import { until, type VifLab } from './vif-lab.js';

const SYN = 2;
const PSH = 8;
const ACK = 16;
const ETH = 14;
const IP = 20;
const TCP = 20;
const BLANK = NetTxFlag.csum_blank | NetTxFlag.data_validated;

export interface Ends {
  readonly mac: readonly number[];
  readonly address: readonly number[];
  readonly port: number;
}

export class TcpClient {
  #sequence = 1000;
  #acknowledged = 0;

  constructor(
    private readonly lab: VifLab,
    private readonly here: Ends,
    private readonly there: Ends,
  ) {}

  async connect(): Promise<void> {
    this.#send(SYN, new Uint8Array(0), 0);
    const answer = await this.#hear((segment) => (segment[ETH + IP + 13]! & SYN) !== 0, 'connection');
    this.#sequence++;
    this.#acknowledged = (answer.readUInt32BE(ETH + IP + 4) + 1) >>> 0;
    this.#send(ACK, new Uint8Array(0), 0);
  }

  /** Sends everything in one frame, to be cut into segments of `size`; resolves when all of it is acknowledged. */
  async send(payload: Uint8Array, size: number): Promise<void> {
    this.#send(ACK | PSH, payload, size);
    this.#sequence += payload.length;
    await this.#hear((segment) => segment.readUInt32BE(ETH + IP + 8) === this.#sequence, 'acknowledgement');
  }

  #send(flags: number, payload: Uint8Array, size: number): void {
    const { here, there } = this;
    const upper = TCP + payload.length;
    const frame = Buffer.alloc(ETH + IP + upper);
    frame.set([...there.mac, ...here.mac, 8, 0]);
    frame.set([0x45, 0, (IP + upper) >> 8, (IP + upper) & 255, 0, 1, 0x40, 0, 64, 6, 0, 0, ...here.address, ...there.address], ETH);
    frame.writeUInt16BE(~referenceSum(frame.subarray(ETH, ETH + IP)) & 0xffff, ETH + 10);
    const tcp = ETH + IP;
    frame.writeUInt16BE(here.port, tcp);
    frame.writeUInt16BE(there.port, tcp + 2);
    frame.writeUInt32BE(this.#sequence, tcp + 4);
    frame.writeUInt32BE(this.#acknowledged, tcp + 8);
    frame.set([0x50, flags, 0xff, 0xff], tcp + 12);
    const pseudo = referenceSum(Uint8Array.from([...here.address, ...there.address, 0, 6, upper >> 8, upper & 255]));
    frame.writeUInt16BE(pseudo, tcp + 16);
    frame.set(payload, tcp + TCP);
    this.lab.front.send(frame, { flags: BLANK, ...(size > 0 ? { extras: [gsoExtra(size)] } : {}) });
  }

  /** The next segment to us that is what is waited for. */
  async #hear(wanted: (segment: Buffer) => boolean, what: string): Promise<Buffer> {
    let found: Buffer | undefined;
    await until(() => {
      const { front } = this.lab;
      front.txResponses();
      front.postRx(Math.min(8, 64 - ((front.rx.prod - front.rx.cons) >>> 0)));
      for (const { id, status } of front.rxResponses()) {
        const frame = Buffer.from(front.rxBuffer(id).slice(0, status));
        const ours = status >= ETH + IP + TCP && frame.readUInt16BE(12) === 0x0800 && frame[ETH + 9] === 6 &&
          frame.readUInt16BE(ETH + IP + 2) === this.here.port;
        if (ours && wanted(frame)) found = frame;
      }
      return found !== undefined;
    }, () => `no ${what}`);
    return found!;
  }
}
