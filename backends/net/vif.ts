/** A vif: negotiation with its frontend over xenbus, and the lifetime of its link and its worker. */
import { Errno } from '../../shim/abi/errno.js';
import { XenbusState } from '../../shim/abi/io/xenbus.js';
import type { RamRange } from '../../shim/memory/guest-memory.js';
import { XenError } from '../../shim/observe/errors.js';
import type { Log } from '../../shim/observe/log.js';
import { DeviceMachine } from '../../shim/xenbus/machine.js';
import type { DeviceId } from '../../shim/xenbus/paths.js';
import { createDevice, removeDevice, requestDetach } from '../../shim/xenbus/toolstack.js';
import { VifConnection } from './vif-connection.js';
import { offeredFeatures, readXdpHeadroom } from './features.js';
import { HashSettings } from './hash-settings.js';
import type { Link } from './link.js';
import { parseMac, requireMac } from './mac.js';
import { MulticastFilter } from './multicast.js';
import { usableMtu } from './mtu.js';
import type { NetBackend, NetBackendChange, NetBackendOptions, NetBackendStats } from './net-backend.js';
import { parseRate, requireRate, UNLIMITED } from './rate.js';
import type { Rate } from './rate.js';
import { sumStats } from './stats.js';
import type { VifEvent, VifLive } from './messages.js';
import { VifDevice } from './vif-device.js';
import { VIF_MEMORY_BYTES } from './vif-memory.js';
import { VifQueues } from './vif-queues.js';
import { nextVif } from './vif-states.js';
import type { VifEffect } from './vif-states.js';

export class Vif implements NetBackend {
  readonly #options: NetBackendOptions;
  readonly #log: Log;
  readonly #id: DeviceId;
  #device: VifDevice;
  #machine: DeviceMachine<VifEffect>;
  readonly #memory = new SharedArrayBuffer(VIF_MEMORY_BYTES);
  readonly #multicast = new MulticastFilter(this.#memory);
  readonly #queues: VifQueues;
  /** Undefined while there is none. */
  #connection: VifConnection | undefined;
  /** Queues that have posted no buffers for too long. */
  readonly #stalled = new Set<number>();
  #disabled = false;
  #carrier = false;
  #up = true;
  #mtu: number | undefined;
  #rateText: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    options: NetBackendOptions,
    readonly link: Link,
    public mac: string,
  ) {
    const { store, domid, index, handles } = options;
    this.#options = options;
    this.#log = options.log.child({ vif: `${domid}.${index}`, link: link.description });
    this.#id = { kind: 'vif', domid, id: index };
    this.#mtu = options.mtu;
    this.#rateText = options.rate;
    this.#device = new VifDevice(store, this.#id, this.#log);
    this.#queues = new VifQueues({
      handles, name: `vif-${domid}-${index}`, memory: this.#memory, log: this.#log,
      told: (queue, event) => {
        this.#told(queue, event);
      },
      lost: (thread) => {
        this.#lost(thread);
      },
    });
    this.#machine = this.#begin();
  }

  get device(): VifDevice {
    return this.#device;
  }

  get up(): boolean {
    return this.#up;
  }

  stats(): NetBackendStats {
    const queues = this.#queues.stats();
    return { ...sumStats(queues), queues, connected: this.#connection !== undefined, carrier: this.#carrier };
  }

  set(change: NetBackendChange): void {
    const mac = change.mac === undefined ? undefined : requireMac(change.mac);
    if (change.mtu !== undefined) usableMtu(change.mtu);
    const rate = change.rate === undefined || change.rate === '' ? change.rate : requireRate(change.rate);
    const { backendPath, frontendPath } = this.#device;
    this.#options.store.transaction((tx) => {
      if (tx.read(`${backendPath}/state`) === undefined) return;
      if (mac !== undefined) for (const path of [backendPath, frontendPath]) tx.write(`${path}/mac`, mac);
      if (change.mtu !== undefined) tx.write(`${frontendPath}/mtu`, String(change.mtu));
      if (rate === '') tx.remove(`${backendPath}/rate`);
      else if (rate !== undefined) tx.write(`${backendPath}/rate`, rate);
    });
    this.mac = mac ?? this.mac;
    if (rate !== undefined) this.#rateText = rate === '' ? undefined : rate;
    if (change.mtu !== undefined) {
      this.#mtu = change.mtu;
      if (this.#connection === undefined) this.link.setMtu?.(change.mtu);
      else this.#connection.setMtu(change.mtu);
    }
    if (change.up !== undefined) this.#setUp(change.up);
  }

  async remap(ram: readonly RamRange[]): Promise<void> {
    await this.#queues.remap({ kind: 'remap', ram });
  }

  detach(): void {
    requestDetach(this.#options.store, this.#id);
  }

  async letGo(): Promise<void> {
    await this.#machine.stop();
    await this.#disconnect();
  }

  restart(): void {
    if (this.#closing !== undefined) return;
    this.#device = new VifDevice(this.#options.store, this.#id, this.#log);
    this.#machine = this.#begin();
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    await this.letGo();
    await this.#queues.close();
    await this.#options.capture?.close();
    this.link.close();
    removeDevice(this.#options.store, this.#id);
  }

  /** Puts the device into the store and waits for a frontend. */
  #begin(): DeviceMachine<VifEffect> {
    const device = this.#device;
    this.#populate();
    this.#setCarrier();
    device.publishAndSwitch(offeredFeatures(this.link.maxQueues ?? 1), XenbusState.InitWait);
    // The link is open and, if it is ours, up: all that a hotplug script would have done.
    device.hotplugDone();
    device.watchKey(`${device.backendPath}/rate`, () => {
      if (this.#connection !== undefined) void this.#queues.tell({ kind: 'rate', rate: this.#rate() }).catch(() => {});
    });
    device.watchKey(`${device.frontendPath}/request-multicast-control`, () => {
      this.#multicast.filtering = device.frontendFlag('request-multicast-control');
    });
    const machine = new DeviceMachine(device, nextVif, {
      perform: (effect) => this.#perform(effect),
      failed: () => this.#disconnect(),
      removed: () => {
        device.forgetHotplug();
        void this.close().then(() => this.#options.removed?.());
      },
    });
    machine.start();
    return machine;
  }

  /** The toolstack's part. */
  #populate(): void {
    const { store, index } = this.#options;
    const handle = String(index);
    createDevice(
      store,
      this.#id,
      {
        handle,
        mac: this.mac,
        script: this.link.description,
        type: 'vif',
        ...this.#linkKeys(),
        carrier: this.#up ? '1' : '0',
        ...(this.#rateText === undefined ? {} : { rate: this.#rateText }),
      },
      { handle, mac: this.mac, ...(this.#mtu === undefined ? {} : { mtu: String(this.#mtu) }) },
    );
  }

  /** What Xen's tools show of a vif's host side. */
  #linkKeys(): Record<string, string> {
    const { description, interfaceName } = this.link;
    const [kind, name] = description.split('=');
    return {
      ...(kind === 'bridge' ? { bridge: name! } : {}),
      ...(interfaceName === undefined ? {} : { vifname: interfaceName }),
    };
  }

  #perform(effect: VifEffect): Promise<void> {
    switch (effect) {
      case 'connect':
        return this.#connect();
      case 'reconfigure':
        return this.#tellLive();
      case 'disconnect':
        return this.#disconnect();
    }
  }

  async #connect(): Promise<void> {
    this.#checkToolstackKeys();
    this.#forgetFrontend();
    const { ports, domid, capture } = this.#options;
    this.#connection = await VifConnection.open({
      device: this.#device, link: this.link, queues: this.#queues, ports, domid, rate: this.#rate(),
      live: this.#live(), mtu: this.#mtu,
      ...(capture === undefined ? {} : { capture }),
    });
    this.#setCarrier();
    this.#log.info(this.#connection.about, 'frontend connected');
    this.#device.awaitHotplug();
  }

  /** What the last frontend has left: nothing of it is the next one's. */
  #forgetFrontend(): void {
    this.#multicast.clear();
    new HashSettings(this.#memory).reset();
    this.#stalled.clear();
    this.#disabled = false;
  }

  /** What the toolstack owes a vif (spec C2). */
  #checkToolstackKeys(): void {
    for (const key of ['script', 'handle']) {
      if (this.#device.backendKey(key) === undefined) throw new XenError(Errno.ENOENT, `reading ${key}`);
    }
    if (parseMac(this.#device.backendKey('mac') ?? '') === undefined) throw new XenError(Errno.EINVAL, 'parsing mac');
  }

  /** Harmless when not connected. */
  async #disconnect(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    this.#setCarrier();
    await connection.close();
  }

  #live(): VifLive {
    return { up: this.#up, xdpHeadroom: readXdpHeadroom(this.#device) };
  }

  async #tellLive(): Promise<void> {
    await this.#queues.tell({ kind: 'live', settings: this.#live() });
  }

  #setUp(up: boolean): void {
    if (up === this.#up) return;
    this.#up = up;
    this.#log.info({ up }, up ? 'link up' : 'link down');
    this.#device.publish({ carrier: up ? '1' : '0' });
    this.#setCarrier();
    void this.#tellLive().catch(() => {});
  }

  #rate(): Rate {
    const text = this.#device.backendKey('rate');
    if (text === undefined) return UNLIMITED;
    const rate = parseRate(text);
    if (rate === undefined) this.#log.warn({ rate: text }, 'rate is not "bytes,usec": unlimited');
    return rate ?? UNLIMITED;
  }

  #told(queue: number, event: VifEvent): void {
    switch (event.kind) {
      case 'attached':
        break;
      case 'carrier':
        this.#log.warn({ queue }, event.on ? 'guest posts buffers again' : 'guest posts no buffers');
        if (event.on) this.#stalled.delete(queue);
        else this.#stalled.add(queue);
        this.#setCarrier();
        break;
      case 'controlDead':
        this.#log.warn({}, 'impossible number of control requests: control ring disabled until the frontend reconnects');
        break;
      case 'disabled':
        if (this.#disabled) break;
        this.#disabled = true;
        this.#log.error({ queue, reason: event.reason }, 'frontend broke the protocol: vif disabled until it reconnects');
        this.#setCarrier();
        // One broken ring takes the others along: the vif is one device.
        void this.#queues.tell({ kind: 'disable' }).catch(() => {});
    }
  }

  /** Our own bug: this vif ends here, the guest's others go on. */
  #lost(thread: number | undefined): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#setCarrier();
    void connection?.close().catch(() => {});
    this.#device.fatal(Errno.EIO, 'internal error');
    if (thread !== undefined) this.#options.threadLost?.(thread);
  }

  /** The host's end has a carrier while a frontend is there, takes what it is sent, and nobody has taken the link down. */
  #setCarrier(): void {
    this.#carrier = this.#up && this.#connection !== undefined && !this.#disabled && this.#stalled.size === 0;
    this.link.setCarrier(this.#carrier);
  }
}
