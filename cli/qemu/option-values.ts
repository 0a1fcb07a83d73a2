/** Values of QEMU's options: `key=value` lists, the JSON that means the same, and sizes. Pure. */

const UNITS: Readonly<Record<string, number>> = {
  b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50, e: 2 ** 60,
};

/** A size as QEMU's -m takes it (MiB unless it has a suffix), in bytes; undefined if it is not one. */
export function memorySize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([bkmgtpe])?$/i.exec(text);
  if (match === null) return undefined;
  const unit = UNITS[(match[2] ?? 'm').toLowerCase()]!;
  return Math.floor(Number(match[1]) * unit);
}

/** The parts between commas; `,,` is a comma. */
export function words(text: string): string[] {
  return text.replaceAll(',,', '\0').split(',').map((word) => word.replaceAll('\0', ','));
}

/**
 * `a,b=1,c=2` as QEMU reads it: a first word without `=` goes under `implied`, a later one is `on`. A JSON object, as
 * libvirt writes most options, gives the same keys: members of members have a dot (`file.filename`, `host-nodes.0`),
 * and true is `on`. What is neither is left for QEMU to complain about.
 */
export function keyValues(text: string, implied: string): Map<string, string> {
  const pairs = new Map<string, string>();
  const json = text.startsWith('{') ? parseObject(text) : undefined;
  if (json !== undefined) {
    flatten('', json, pairs);
    return pairs;
  }
  words(text).forEach((word, i) => {
    const equals = word.indexOf('=');
    if (equals >= 0) pairs.set(word.slice(0, equals), word.slice(equals + 1));
    else if (i === 0) pairs.set(implied, word);
    else pairs.set(word, 'on');
  });
  return pairs;
}

function parseObject(text: string): object | undefined {
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}

function flatten(prefix: string, members: object, into: Map<string, string>): void {
  for (const [key, value] of Object.entries(members) as [string, unknown][]) {
    if (typeof value === 'object' && value !== null) flatten(`${prefix}${key}.`, value, into);
    else if (typeof value === 'boolean') into.set(prefix + key, value ? 'on' : 'off');
    else into.set(prefix + key, String(value));
  }
}

/** A QAPI boolean as the command line has it. */
export function isOn(text: string): boolean {
  return ['on', 'yes', 'true', 'y'].includes(text);
}
