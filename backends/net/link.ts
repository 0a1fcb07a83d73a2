/** Where a vif's frames go. A link is a descriptor that carries one frame per read or write, each after a virtio-net header. */

/** Segmentation and checksum work the frontend takes over, so that the link may hand it unfinished frames. */
export interface Offloads {
  /** TCP and UDP checksums over IPv4 may be blank. */
  readonly csum4: boolean;
  readonly csum6: boolean;
  /** TCP frames up to 64 KiB over IPv4 may come unsegmented. */
  readonly tso4: boolean;
  readonly tso6: boolean;
}

export const NO_OFFLOADS: Offloads = Object.freeze({ csum4: false, csum6: false, tso4: false, tso6: false });

export interface Link {
  /** For the operator, e.g. `tap=vif1.0`. */
  readonly description: string;
  /** The host's interface, if there is one. */
  readonly interfaceName?: string;
  /** Non-blocking; reads and writes carry a 12-byte virtio-net header, then the frame. */
  readonly fd: number;
  /** A link that is full is worth waiting for: it has a reader that is never away for long. A tap drops what it has no room for. */
  readonly waits?: boolean;
  /** Served by plain system calls even where it could be by io_uring; makes no difference to a link that waits. */
  readonly plain?: boolean;
  /** Queues the link can have; default 1. */
  readonly maxQueues?: number;
  /** Descriptors of that many queues, `fd` the first; gives back those of more. Only with `maxQueues` above 1. */
  queues?(count: number): readonly number[];
  /** Longest payload of a frame, when the interface is ours to configure; undefined is what it came with. */
  setMtu?(bytes: number | undefined): void;
  /** What may come unfinished on reads from now on. */
  setOffloads(offloads: Offloads): void;
  /** Tells the host's end whether the guest is there. */
  setCarrier(on: boolean): void;
  /** Gives the link back; what existed before stays, what was made for us goes. Idempotent. */
  close(): void;
}
