/** `xenshim check`: whether a guest can be run here, in which mode, and what to do about what is missing. */
import { parseOptions } from '../arguments.js';
import { thisHost, type Host } from './host.js';
import { ANY_KVM_COSTS } from './kvm.js';
import { report, type Finding, type Report } from './report.js';

const USAGE = `usage: xenshim check [--json] [--qemu PROGRAM]

Says what this host offers. Exit status 0: a guest can be run here; 3: it cannot.

  --json          one JSON object: { mode, ok, findings: [{ name, ok, needed, detail, cure }] }
  --qemu PROGRAM  the QEMU to look at (default: qemu-system-x86_64)
`;

const MODES = {
  'kvm-xen': "kvm-xen: KVM forwards the guest's hypercalls and carries the fast paths",
  'any-kvm': `any-kvm: xenshim takes the guest's hypercalls itself; ${ANY_KVM_COSTS}`,
  none: 'none: no way to get at the hypercalls of guests',
} as const;

function lines({ name, ok, needed, detail, cure }: Finding): string[] {
  const mark = ok ? 'ok' : needed ? 'MISSING' : 'absent';
  return [`${mark.padEnd(8)}${name.padEnd(30)}${detail}`, ...(cure === undefined ? [] : [`${' '.repeat(38)}→ ${cure}`])];
}

/** For people. */
export function text({ mode, ok, findings }: Report): string {
  return [
    ...findings.flatMap(lines),
    '',
    `mode ${MODES[mode]}`,
    ok ? 'A guest can be run here.' : 'No guest can be run here.',
    '',
  ].join('\n');
}

/** @param host what is looked at; this one, but for tests */
export async function check(
  argv: readonly string[],
  host: Host = thisHost,
  print: (text: string) => void = (output) => void process.stdout.write(output),
): Promise<number> {
  const { values } = parseOptions('check', {
    args: [...argv],
    options: {
      json: { type: 'boolean', default: false },
      qemu: { type: 'string', default: 'qemu-system-x86_64' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    print(USAGE);
    return 0;
  }
  const result = await report(host, values.qemu);
  print(values.json ? `${JSON.stringify(result)}\n` : text(result));
  return result.ok ? 0 : 3;
}
