/** Where a split device lives in the store. */

/** Driver domain and toolstack are both this process. */
export const BACKEND_DOMID = 0;

export interface DeviceId {
  /** `vbd`, `vif`, `console` … */
  readonly kind: string;
  /** The frontend's domain. */
  readonly domid: number;
  /** Virtual device number of a disk, index of a network interface. */
  readonly id: number;
}

export const domainPath = (domid: number): string => `/local/domain/${domid}`;

/** Relative to the backend's domain: Linux's `nodename`, which also names the error node. */
export const backendNodename = ({ kind, domid, id }: DeviceId): string => `backend/${kind}/${domid}/${id}`;

export const backendPath = (device: DeviceId): string => `${domainPath(BACKEND_DOMID)}/${backendNodename(device)}`;

export const frontendPath = ({ kind, domid, id }: DeviceId): string => `${domainPath(domid)}/device/${kind}/${id}`;

export const errorPath = (device: DeviceId): string =>
  `${domainPath(BACKEND_DOMID)}/error/${backendNodename(device)}/error`;
