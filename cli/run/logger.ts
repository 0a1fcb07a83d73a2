/** The log of a run: pino, as JSON lines or as text for people. */
import { Writable } from 'node:stream';
import { destination, pino, type Logger } from 'pino';
import type { LogFormat, LogLevel } from './options.js';

const NAMES: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' };
const HIDDEN = new Set(['level', 'time', 'msg', 'pid', 'hostname']);

/** `12:34:56.789 info  message  key=value` */
function line(record: Record<string, unknown>): string {
  const time = new Date(Number(record['time'])).toISOString().slice(11, 23);
  const level = (NAMES[Number(record['level'])] ?? '').padEnd(5);
  const fields = Object.entries(record)
    .filter(([key]) => !HIDDEN.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${time} ${level} ${[String(record['msg']), ...fields].join('  ')}\n`;
}

/** A logger on standard error. */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  if (format === 'json') return pino({ level, base: null }, destination({ fd: 2, sync: true }));
  const text = new Writable({
    write(chunk: Buffer, _encoding, done) {
      process.stderr.write(line(JSON.parse(chunk.toString('utf8')) as Record<string, unknown>));
      done();
    },
  });
  return pino({ level, base: null }, text);
}
