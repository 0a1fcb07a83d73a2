/** What the part of a benchmark that runs on the KVM host is told, as words of a command line. */
import { parseArgs } from 'node:util';

export interface Settings {
  readonly rounds: number;
  readonly seconds: number;
  readonly warmUp: number;
  /** Cases whose names contain one of these; empty = all. */
  readonly cases: readonly string[];
  readonly counters: boolean;
  /** Further options of Node for xenshim. */
  readonly nodeOptions: readonly string[];
  readonly diskOptions: string;
}

export const OPTIONS = {
  rounds: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '4' },
  'warm-up': { type: 'string', default: '10' },
  cases: { type: 'string', default: '' },
  counters: { type: 'boolean', default: false },
  'node-options': { type: 'string', default: '' },
  'disk-options': { type: 'string', default: '' },
} as const;

const list = (text: string): string[] => text.split(',').filter((word) => word !== '');

/** The settings in a command line that has only these options. */
export function parseSettings(args: string[]): Settings {
  const { values } = parseArgs({ args, options: OPTIONS });
  return settingsOf(values);
}

type Values = { readonly [K in keyof typeof OPTIONS]: (typeof OPTIONS)[K]['type'] extends 'boolean' ? boolean : string };

export function settingsOf(values: Values): Settings {
  return {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    warmUp: Number(values['warm-up']),
    cases: list(values.cases),
    counters: values.counters,
    nodeOptions: list(values['node-options']),
    diskOptions: values['disk-options'],
  };
}

/** The same settings as words of a command line. */
export function settingWords(settings: Settings): string[] {
  return [
    `--rounds=${settings.rounds}`, `--seconds=${settings.seconds}`, `--warm-up=${settings.warmUp}`,
    `--cases=${settings.cases.join()}`, ...(settings.counters ? ['--counters'] : []),
    `--node-options=${settings.nodeOptions.join()}`, `--disk-options=${settings.diskOptions}`,
  ];
}
