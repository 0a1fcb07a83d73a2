/**
 * Permissions of a node: a list of entries, the first of which names the owner and gives everybody else's default.
 * On the wire an entry is a letter and a domid: `n0`, `r1`, `w2`, `b3` (none, read, write, both).
 */
export const Access = Object.freeze({ NONE: 0, READ: 1, WRITE: 2, OWNER: 4 } as const);

export interface Permission {
  readonly domid: number;
  /** Access.READ | Access.WRITE */
  readonly access: number;
}

/** Never empty. */
export type Permissions = readonly [Permission, ...Permission[]];

/** Who asks. */
export interface Caller {
  readonly domid: number;
  /** dom0 and host tools: every right, no quotas. */
  readonly privileged: boolean;
  /** Domain in whose name this one may act as well (SET_TARGET: a stub domain and its guest). */
  readonly target: number | undefined;
}

export const dom0: Caller = Object.freeze({ domid: 0, privileged: true, target: undefined });

/** Domids from DOMID_FIRST_RESERVED on name no domain (public/xen.h). */
export const DOMID_FIRST_RESERVED = 0x7ff0;

const letters = 'nrwb';
const entry = /^([nrwb])(\d{1,5})$/;

/** Undefined if the text is not a permission entry. */
export function parsePermission(text: string): Permission | undefined {
  const match = entry.exec(text);
  if (match === null) return undefined;
  const domid = Number(match[2]);
  if (domid >= DOMID_FIRST_RESERVED) return undefined;
  return { domid, access: letters.indexOf(match[1]!) };
}

export function formatPermission(permission: Permission): string {
  return `${letters[permission.access]}${permission.domid}`;
}

/** A list of entries; undefined if empty or any of them is malformed. */
export function parsePermissions(texts: readonly string[]): Permissions | undefined {
  const parsed: Permission[] = [];
  for (const text of texts) {
    const permission = parsePermission(text);
    if (permission === undefined) return undefined;
    parsed.push(permission);
  }
  const [owner, ...others] = parsed;
  return owner === undefined ? undefined : [owner, ...others];
}

/** Access bits the caller has under these permissions. */
export function accessFor(caller: Caller, permissions: Permissions): number {
  const owner = permissions[0];
  const isCaller = (domid: number) => domid === caller.domid || domid === caller.target;
  if (caller.privileged || isCaller(owner.domid)) return Access.READ | Access.WRITE | Access.OWNER;
  for (let i = 1; i < permissions.length; i++) {
    const permission = permissions[i]!;
    if (isCaller(permission.domid)) return permission.access;
  }
  return owner.access;
}
