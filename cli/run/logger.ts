/** The log of a run: pino, as JSON lines or as text for people. */
import { Writable } from 'node:stream';
import { destination, pino, type Logger } from 'pino';
import type { LogFormat, LogLevel } from './options.js';

const NAMES: Readonly<Record<number, string>> = {
  10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal',
};
const HIDDEN = new Set(['level', 'time', 'msg', 'pid', 'hostname']);

/** A guest's words must neither begin a new line nor reach the terminal as commands to it. */
function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A value with a space, a quote or an equals sign is quoted, so that fields can be told apart. */
function field(value: unknown): string {
  const plain = typeof value === 'string' && /^[^\s"=]+$/.test(value);
  return printable(plain ? value : JSON.stringify(value));
}

/** A record of pino as a line: `12:34:56.789 info  message  key=value`. */
export function textLine(record: Record<string, unknown>): string {
  const time = new Date(Number(record['time'])).toISOString().slice(11, 23);
  const level = (NAMES[Number(record['level'])] ?? '').padEnd(5);
  const fields = Object.entries(record)
    .filter(([key]) => !HIDDEN.has(key))
    .map(([key, value]) => `${key}=${field(value)}`);
  const message = record['msg'] === undefined ? [] : [printable(String(record['msg']))];
  return `${time} ${level} ${[...message, ...fields].join('  ')}\n`;
}

/** A logger on standard error. */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  if (format === 'json') return pino({ level, base: null }, destination({ fd: 2, sync: true }));
  const text = new Writable({
    write(chunk: Buffer, _encoding, done) {
      process.stderr.write(textLine(JSON.parse(chunk.toString('utf8')) as Record<string, unknown>));
      done();
    },
  });
  return pino({ level, base: null }, text);
}
