/** The command line of `xenshim run`, parsed and checked as far as that goes without touching the host. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { parseBackend, type BackendOption } from './backend-option.js';
import { KVM_MODES, type WantedMode } from '../check/kvm.js';
import { choice } from './choice.js';
import { DISK_OPTIONS, parseDisk, parseQueuesPerWorker, type DiskOption } from './disk-option.js';
import { DOMAIN_USAGE, domainOptions, parseDomain, type DomainOptions } from './domain-options.js';
import { MEMORY_USAGE, memoryOptions, parseMemory, type MemoryOption } from './memory-option.js';
import { PAGING_USAGE, pagingOptions, parsePaging, type PagingOption } from './paging-option.js';
import { parseVif, VIF_LINKS, VIF_OPTIONS, type VifOption } from './vif-option.js';

/** Where the PV console goes. */
export type ConsoleOption = { readonly to: 'stdio' } | { readonly to: 'log'; readonly file: string };

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface RunOptions {
  readonly name: string;
  readonly disks: readonly DiskOption[];
  /** Of every disk that has no such option of its own. */
  readonly queuesPerWorker?: number;
  readonly vifs: readonly VifOption[];
  readonly backends: readonly BackendOption[];
  readonly consoles: readonly ConsoleOption[];
  readonly domain: DomainOptions;
  readonly kvmMode: WantedMode;
  readonly memory: MemoryOption;
  readonly paging?: PagingOption;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** The program and its arguments. */
  readonly qemu: readonly [string, ...string[]];
}

export const RUN_USAGE = `usage: xenshim run [options] -- qemu-system-x86_64 [QEMU options]

Starts QEMU with a Xen guest in it, and the backends of the guest's PV devices.

  --name NAME             name of the guest, for the other commands (default: guest-PID)
  --disk DISK[,OPTION]…   PV disk on an image, block device or network store; the first is xvda, the next xvdb …
                          ${DISK_OPTIONS}
  --queues-per-worker N   a thread for every N queues of a disk, for disks that do not say (default: one for all)
  --vif LINK[,OPTION]…    PV network interface; LINK is ${VIF_LINKS}
                          ${VIF_OPTIONS}
  --backend FILE[,KEY=VALUE]…
                          a backend of your own, see docs/writing-a-backend.md
  --console[=stdio]       PV console on this terminal (Ctrl-] leaves it); without it: \`xenshim console NAME\`
  --console=log:FILE      PV console output also into FILE
${MEMORY_USAGE}${PAGING_USAGE}${DOMAIN_USAGE}  --kvm-mode auto|xen|any  whether KVM forwards hypercalls or xenshim takes them itself (default: what the host has)
  --log-level LEVEL       ${LOG_LEVELS.join(', ')} (default: info)
  --log-format FORMAT     ${LOG_FORMATS.join(', ')} (default: text); the log goes to standard error
`;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function parseConsole(text: string): ConsoleOption {
  if (text === '' || text === 'stdio') return { to: 'stdio' };
  if (text.startsWith('log:') && text.length > 4) return { to: 'log', file: text.slice(4) };
  throw new OperatorError('USAGE', `--console=${text}`, 'use --console, --console=stdio or --console=log:FILE');
}

/** `--console` alone takes no value, `--console=…` does: parseArgs knows only one of the two. */
function withConsoleValues(argv: readonly string[]): string[] {
  return argv.map((argument) => (argument === '--console' ? '--console=stdio' : argument));
}

/** @returns undefined when help was asked for. @throws OperatorError */
export function parseRun(argv: readonly string[]): RunOptions | undefined {
  const dashes = argv.indexOf('--');
  const own = dashes < 0 ? argv : argv.slice(0, dashes);
  const { values, positionals } = parseOptions('run', {
    args: withConsoleValues(own),
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      disk: { type: 'string', multiple: true, default: [] },
      'queues-per-worker': { type: 'string' },
      vif: { type: 'string', multiple: true, default: [] },
      backend: { type: 'string', multiple: true, default: [] },
      console: { type: 'string', multiple: true, default: [] },
      ...domainOptions,
      'kvm-mode': { type: 'string', default: 'auto' },
      ...memoryOptions,
      ...pagingOptions,
      'log-level': { type: 'string', default: 'info' },
      'log-format': { type: 'string', default: 'text' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  const [program, ...rest] = dashes < 0 ? [] : argv.slice(dashes + 1);
  if (positionals.length > 0) {
    throw new OperatorError('USAGE', `'${positionals[0]!}' stands before --`, 'put the QEMU command after --');
  }
  if (program === undefined) {
    throw new OperatorError('USAGE', 'there is no QEMU command', 'end with -- qemu-system-x86_64 …');
  }
  const name = values.name ?? `guest-${process.pid}`;
  if (!NAME.test(name)) {
    throw new OperatorError('USAGE', `--name '${name}' is no good`, 'use letters, digits, dots, dashes and underscores');
  }
  const vifs = values.vif.map(parseVif);
  const taps = vifs.flatMap(({ link }) => (link.kind === 'tap' ? link.name : []));
  if (new Set(taps).size < taps.length) throw new OperatorError('USAGE', 'two --vif name the same tap', 'give each its own');
  const paging = parsePaging(values);
  const perWorker = values['queues-per-worker'];
  return {
    name,
    disks: values.disk.map(parseDisk),
    ...(perWorker === undefined ? {} : { queuesPerWorker: parseQueuesPerWorker(perWorker) }),
    vifs,
    backends: values.backend.map(parseBackend),
    consoles: values.console.map(parseConsole),
    domain: parseDomain(values),
    kvmMode: choice('kvm-mode', values['kvm-mode'], KVM_MODES),
    memory: parseMemory(values),
    ...(paging === undefined ? {} : { paging }),
    logLevel: choice('log-level', values['log-level'], LOG_LEVELS),
    logFormat: choice('log-format', values['log-format'], LOG_FORMATS),
    qemu: [program, ...rest],
  };
}
