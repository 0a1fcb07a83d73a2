/** The second half of a negotiation: the memory the back end may reach, and the rings in it. */
import type { SharedRange } from '../../../../shim/memory/attach.js';
import { MAX_TABLE_REGIONS, Message, ringAddresses, ringState, u64 } from './protocol.js';
import type { VhostChannel } from './protocol.js';
import { RING_SIZE } from './vring.js';
import type { Vring } from './vring.js';

/** @throws Error when the back end is gone or refuses */
export function setUp(
  channel: VhostChannel,
  memorySlots: boolean,
  ranges: readonly SharedRange[],
  rings: readonly Vring[],
): void {
  shareMemory(channel, memorySlots, ranges);
  for (const ring of rings) {
    const { index } = ring;
    const { desc, used, avail } = ring.addresses;
    ring.reset();
    channel.tell(Message.SET_VRING_NUM, ringState(index, RING_SIZE));
    channel.tell(Message.SET_VRING_BASE, ringState(index, 0));
    channel.tell(Message.SET_VRING_ADDR, ringAddresses(index, desc, used, avail));
    channel.tell(Message.SET_VRING_CALL, u64(BigInt(index)), [ring.callFd]);
    channel.tell(Message.SET_VRING_KICK, u64(BigInt(index)), [ring.kickFd]);
    channel.tell(Message.SET_VRING_ENABLE, ringState(index, 1));
  }
}

/**
 * Regions carry the addresses of this process both as "guest" and as user addresses: what a queue writes into a
 * descriptor needs no translation.
 */
function shareMemory(channel: VhostChannel, memorySlots: boolean, ranges: readonly SharedRange[]): void {
  if (ranges.length <= MAX_TABLE_REGIONS) {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(ranges.length);
    channel.tell(Message.SET_MEM_TABLE, Buffer.concat([head, ...ranges.map(region)]), ranges.map(({ fd }) => fd));
    return;
  }
  if (!memorySlots) throw new Error(`vhost-user: guest RAM is in ${ranges.length} pieces, the back end takes 8`);
  for (const range of ranges) channel.tell(Message.ADD_MEM_REG, Buffer.concat([Buffer.alloc(8), region(range)]), [range.fd]);
}

/** `struct vhost_memory_region`: guest address, size, user address, offset in the file. */
function region({ hva, length, offset }: SharedRange): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeBigUInt64LE(BigInt(hva), 0);
  bytes.writeBigUInt64LE(BigInt(length), 8);
  bytes.writeBigUInt64LE(BigInt(hva), 16);
  bytes.writeBigUInt64LE(BigInt(offset), 24);
  return bytes;
}
