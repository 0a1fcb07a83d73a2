/** How long a frame's payload may be (spec C2). */
import { OperatorError } from '../../shim/observe/errors.js';

/** What every frontend takes, and the most one without scatter-gather does. */
export const DEFAULT_MTU = 1500;
/** The smallest an IPv4 host must take. */
export const MIN_MTU = 68;
/** The whole frame, with a VLAN tag, has to fit into 65535 bytes. */
export const MAX_MTU = 65535 - 18;

/** @throws OperatorError MTU */
export function usableMtu(mtu: number): number {
  if (Number.isInteger(mtu) && mtu >= MIN_MTU && mtu <= MAX_MTU) return mtu;
  throw new OperatorError('MTU', `an MTU of ${mtu} is not possible`, `choose ${MIN_MTU} to ${MAX_MTU}`);
}
