/** struct virtio_net_hdr_v1 (linux/virtio_net.h), little-endian on x86: what stands before each frame of a link. */

export const VnetHeader = Object.freeze({
  flags: 0,
  gso_type: 1,
  hdr_len: 2,
  gso_size: 4,
  csum_start: 6,
  csum_offset: 8,
  num_buffers: 10,
  SIZE: 12,
});

export const VnetFlag = Object.freeze({ NEEDS_CSUM: 1, DATA_VALID: 2 });

export const VnetGso = Object.freeze({ NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 });

/** Writes a header for a frame that is complete as it stands. */
export function writePlainHeader(view: DataView, at: number): void {
  view.setUint32(at, 0, true);
  view.setUint32(at + 4, 0, true);
  view.setUint32(at + 8, 0, true);
}

/** Writes a header for a frame whose checksum the receiver still has to fill in. */
export function writeCsumHeader(view: DataView, at: number, csumStart: number, csumOffset: number): void {
  writeGsoHeader(view, at, csumStart, csumOffset, VnetGso.NONE, 0, 0);
}

/**
 * Writes a header for a frame that is still to be segmented.
 * @param gsoType VnetGso.TCPV4 or TCPV6
 * @param headerLength bytes up to the end of the TCP header
 */
export function writeGsoHeader(
  view: DataView,
  at: number,
  csumStart: number,
  csumOffset: number,
  gsoType: number,
  gsoSize: number,
  headerLength: number,
): void {
  view.setUint8(at + VnetHeader.flags, VnetFlag.NEEDS_CSUM);
  view.setUint8(at + VnetHeader.gso_type, gsoType);
  view.setUint16(at + VnetHeader.hdr_len, headerLength, true);
  view.setUint16(at + VnetHeader.gso_size, gsoSize, true);
  view.setUint16(at + VnetHeader.csum_start, csumStart, true);
  view.setUint16(at + VnetHeader.csum_offset, csumOffset, true);
  view.setUint16(at + VnetHeader.num_buffers, 0, true);
}
