/** Requests of host tools that are about domains, not nodes. Whoever owns the domains' rings answers them. */
import type { WireError } from '../abi/io/xs_wire.js';

export interface Toolstack {
  /** INTRODUCE. Of a domain already introduced it starts the connection afresh. */
  introduce(domid: number, gfn: number, port: number): WireError | undefined;
  /** RELEASE: the domain is gone. */
  release(domid: number): WireError | undefined;
  /** RESUME: forget that the domain has shut down. */
  resume(domid: number): WireError | undefined;
  /** SET_TARGET: `domid` may act for `target`. */
  setTarget(domid: number, target: number): WireError | undefined;
  isIntroduced(domid: number): boolean;
}
