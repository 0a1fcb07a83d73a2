/** Path syntax of the store (docs/misc/xenstore.txt): what is valid, and the family of a path. */
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from '../abi/io/xs_wire.js';

const allowed = /^[A-Za-z0-9/_@-]*$/;
const domainHome = /^\/local\/domain\/\d{1,5}\//;

export const INTRODUCE_DOMAIN = '@introduceDomain';
export const RELEASE_DOMAIN = '@releaseDomain';

/** Home of a domain: where its relative paths start. */
export function homeOf(domid: number): string {
  return `/local/domain/${domid}`;
}

/** Special names (`@releaseDomain`) stand outside the tree; they can be watched and carry permissions. */
export function isSpecial(path: string): boolean {
  return path.startsWith('@');
}

/**
 * Makes a path absolute and checks it; undefined if it breaks the rules.
 * @param home what a relative path is relative to
 * @param longest limit for the part behind the domain's home (quota `path-max`)
 */
export function canonical(
  path: string,
  home: string,
  specialAllowed: boolean,
  longest: number = XENSTORE_REL_PATH_MAX,
): string | undefined {
  if (!allowed.test(path)) return undefined;
  if (isSpecial(path) && !specialAllowed) return undefined;
  const full = path.startsWith('/') || isSpecial(path) ? path : `${home}/${path}`;
  if (full.length > XENSTORE_ABS_PATH_MAX) return undefined;
  if (full !== '/' && full.endsWith('/')) return undefined;
  if (full.includes('//')) return undefined;
  const behindHome = full.length - (domainHome.exec(full)?.[0].length ?? 0);
  if (behindHome > Math.min(longest === 0 ? Infinity : longest, XENSTORE_REL_PATH_MAX)) return undefined;
  return full;
}

/** The parent's path; a special name and the root itself have the root as parent. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** Last component. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function childOf(parent: string, name: string): string {
  return parent === '/' ? `/${name}` : `${parent}/${name}`;
}
