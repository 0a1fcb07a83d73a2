/** Everything of a guest that is Xen: loaded while QEMU and the firmware start. */
import { serveSocket } from '../../shim/xenstore/socket.js';
import { Xenstore } from '../../shim/xenstore/xenstore.js';
import type { ControlHandlers } from '../control/server.js';
import type { Cleanup } from './cleanup.js';
import { Guest, type GuestParts } from './guest.js';
import { guestControl } from './guest-control.js';

export interface GuestSurroundings {
  readonly qemuPid: number;
  /** Path of the socket for the distribution's xenstore tools. */
  readonly xenstoreSocket: string;
  /** The control socket's commands; those of the guest are added. */
  readonly handlers: Record<string, ControlHandlers[string]>;
}

/** @throws OperatorError when a socket cannot be made */
export async function openGuest(
  parts: Omit<GuestParts, 'xenstore'>,
  { qemuPid, xenstoreSocket, handlers }: GuestSurroundings,
  cleanup: Cleanup,
): Promise<Guest> {
  const xenstore = new Xenstore({ log: parts.log });
  const guest = new Guest({ ...parts, xenstore });
  cleanup.add(() => guest.close());
  const { name, memory, vcpus } = parts;
  const commands = guestControl(guest, xenstore.client, () => ({ name, memory, vcpus, qemuPid }));
  Object.assign(handlers, commands);
  const socket = await serveSocket(xenstore, xenstoreSocket);
  cleanup.add(() => socket.close());
  return guest;
}
