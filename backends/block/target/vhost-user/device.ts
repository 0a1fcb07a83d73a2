/** What a virtio block device says of itself over vhost-user (linux/virtio_blk.h, struct virtio_blk_config). */
import type { Target } from '../target.js';
import { Message, ProtocolFeature, u64 } from './protocol.js';
import type { VhostChannel } from './protocol.js';

/** Feature bits of virtio, of its block device, and of vhost-user. */
export const Feature = Object.freeze({
  RO: 1n << 5n,
  BLK_SIZE: 1n << 6n,
  FLUSH: 1n << 9n,
  TOPOLOGY: 1n << 10n,
  MQ: 1n << 12n,
  DISCARD: 1n << 13n,
  INDIRECT_DESC: 1n << 28n,
  EVENT_IDX: 1n << 29n,
  PROTOCOL_FEATURES: 1n << 30n,
  VERSION_1: 1n << 32n,
} as const);

const { RO, BLK_SIZE, FLUSH, TOPOLOGY, MQ, DISCARD, INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 } = Feature;
const WANTED = RO | BLK_SIZE | FLUSH | TOPOLOGY | MQ | DISCARD | INDIRECT_DESC | EVENT_IDX | PROTOCOL_FEATURES | VERSION_1;
/** The queues here have no other form. */
const NEEDED = INDIRECT_DESC | EVENT_IDX | PROTOCOL_FEATURES | VERSION_1;

/** Bytes of the configuration space we ask for: up to and with `write_zeroes_may_unmap`. */
const CONFIG_BYTES = 60;

export interface VhostDevice {
  /** Features both sides have. */
  readonly features: bigint;
  readonly queues: number;
  readonly memorySlots: boolean;
  readonly target: Target;
  /** Most sectors of 512 bytes in one discard; 0 = none. */
  readonly maxDiscard: number;
}

/**
 * The first half of a negotiation: asks, and sets nothing but features. The answer to GET_FEATURES has been asked for.
 * @throws Error when the back end is gone, or is no block device these queues can drive
 */
export function meetDevice(channel: VhostChannel): VhostDevice {
  const offered = channel.receive(Message.GET_FEATURES).readBigUInt64LE();
  if ((offered & NEEDED) !== NEEDED) throw new Error(`vhost-user: features 0x${offered.toString(16)} are not enough`);
  const features = offered & WANTED;
  const offers = channel.askU64(Message.GET_PROTOCOL_FEATURES);
  const { MQ: QUEUES, REPLY_ACK, CONFIG, CONFIGURE_MEM_SLOTS } = ProtocolFeature;
  if ((offers & CONFIG) === 0n) throw new Error('vhost-user: the back end shows no configuration space');
  const protocol = offers & (QUEUES | REPLY_ACK | CONFIG | CONFIGURE_MEM_SLOTS);
  channel.send(Message.SET_PROTOCOL_FEATURES, u64(protocol));
  channel.confirms = (protocol & REPLY_ACK) !== 0n;
  channel.send(Message.SET_OWNER);
  const queues = (protocol & QUEUES) === 0n ? 1 : Number(channel.askU64(Message.GET_QUEUE_NUM));
  channel.tell(Message.SET_FEATURES, u64(features));
  return {
    features,
    queues,
    memorySlots: (protocol & CONFIGURE_MEM_SLOTS) !== 0n,
    ...describe(readConfig(channel), features),
  };
}

function readConfig(channel: VhostChannel): Buffer {
  const question = Buffer.alloc(12 + CONFIG_BYTES);
  question.writeUInt32LE(CONFIG_BYTES, 4);
  const answer = channel.ask(Message.GET_CONFIG, question);
  if (answer.length !== question.length) throw new Error('vhost-user: the configuration space is too short');
  return answer.subarray(12);
}

function describe(config: Buffer, features: bigint): { target: Target; maxDiscard: number } {
  const has = (feature: bigint): boolean => (features & feature) !== 0n;
  const sectorSize = has(Feature.BLK_SIZE) ? config.readUInt32LE(20) : 512;
  const physicalSectorSize = has(Feature.TOPOLOGY) ? sectorSize << config.readUInt8(24) : sectorSize;
  const alignment = config.readUInt32LE(44);
  const limit = has(Feature.DISCARD) ? config.readUInt32LE(36) : 0;
  // A long discard is cut into pieces; each begins where a piece may begin.
  const maxDiscard = alignment > 1 ? limit - (limit % alignment) : limit;
  return {
    target: {
      sectors: Number(config.readBigUInt64LE(0)),
      sectorSize,
      physicalSectorSize,
      readonly: has(Feature.RO),
      discardGranularity: maxDiscard > 0 && !has(Feature.RO) ? Math.max(alignment * 512, sectorSize) : undefined,
    },
    maxDiscard,
  };
}
