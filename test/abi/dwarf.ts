/** The members of C structures, read from the compiler's debug information as `readelf --debug-dump=info` prints it. */

interface Entry {
  readonly tag: string;
  readonly depth: number;
  readonly attributes: Map<string, string>;
  readonly children: Entry[];
}

/** A member without members of its own. */
export interface LeafMember {
  /** Designator, `u.sring.req_prod`. */
  readonly path: string;
  readonly at: number;
  /** Bytes. */
  readonly size: number;
  /** It is an alternative of a union, or within one. */
  readonly alternative: boolean;
}

export class DebugInfo {
  readonly #byOffset = new Map<string, Entry>();
  readonly #variables = new Map<string, Entry>();

  constructor(text: string) {
    const open: Entry[] = [];
    let current: Entry | undefined;
    for (const line of text.split('\n')) {
      const entry = /^\s*<([0-9a-f]+)><([0-9a-f]+)>: Abbrev Number: \d+ \((\w+)\)/.exec(line);
      if (entry !== null) {
        const depth = parseInt(entry[1]!, 16);
        current = { tag: entry[3]!, depth, attributes: new Map(), children: [] };
        this.#byOffset.set(entry[2]!, current);
        open.length = depth;
        open[depth - 1]?.children.push(current);
        open[depth] = current;
        continue;
      }
      const attribute = /^\s*<[0-9a-f]+>\s+(DW_AT_\w+)\s*:\s*(.*?)\s*$/.exec(line);
      if (attribute === null || current === undefined) continue;
      const value = attribute[2]!.replace(/^\((?:indirect|alt indirect|indexed)[^)]*\):\s*/, '');
      current.attributes.set(attribute[1]!, value);
      if (attribute[1] === 'DW_AT_name' && current.tag === 'DW_TAG_variable') this.#variables.set(value, current);
    }
  }

  /** Leaf members of the type of a variable, those of unions and nested structures included; arrays count as leaves. */
  leaves(variable: string): LeafMember[] {
    const declared = this.#variables.get(variable);
    const type = declared && this.#strip(this.#typeOf(declared));
    if (type === undefined) throw new Error(`no debug information about ${variable}`);
    return this.#members(type, { path: '', at: 0, alternative: false });
  }

  #members(type: Entry, outer: Omit<LeafMember, 'size'>): LeafMember[] {
    const alternative = outer.alternative || type.tag === 'DW_TAG_union_type';
    return type.children
      .filter((child) => child.tag === 'DW_TAG_member')
      .flatMap((child) => {
        const name = child.attributes.get('DW_AT_name');
        const at = outer.at + Number(child.attributes.get('DW_AT_data_member_location') ?? 0);
        const inner = this.#strip(this.#typeOf(child));
        if (inner?.tag === 'DW_TAG_structure_type' || inner?.tag === 'DW_TAG_union_type') {
          const path = name === undefined ? outer.path : `${outer.path}${name}.`;
          return this.#members(inner, { path, at, alternative });
        }
        return [{ path: `${outer.path}${name}`, at, size: this.#sizeOf(inner), alternative }];
      });
  }

  #sizeOf(type: Entry | undefined): number {
    if (type === undefined) return 0;
    const size = type.attributes.get('DW_AT_byte_size');
    if (size !== undefined) return Number(size);
    const counts = type.children.map((child) => Number(child.attributes.get('DW_AT_upper_bound') ?? -1) + 1);
    return counts.reduce((total, count) => total * count, this.#sizeOf(this.#strip(this.#typeOf(type))));
  }

  #typeOf(entry: Entry): Entry | undefined {
    const reference = /^<0x([0-9a-f]+)>/.exec(entry.attributes.get('DW_AT_type') ?? '');
    return reference === null ? undefined : this.#byOffset.get(reference[1]!);
  }

  #strip(type: Entry | undefined): Entry | undefined {
    const transparent = ['DW_TAG_typedef', 'DW_TAG_const_type', 'DW_TAG_volatile_type'];
    while (type !== undefined && transparent.includes(type.tag)) type = this.#typeOf(type);
    return type;
  }
}
