import test from 'ava';

import { textLine } from '../../../cli/run/logger.js';

const at = Date.UTC(2024, 1, 29, 23, 4, 5, 67);

test('a line has time, level, message and fields in their order', (t) => {
  t.is(
    textLine({ level: 30, time: at, vbd: 51712, file: '/a.img', msg: 'connected' }),
    '23:04:05.067 info  connected  vbd=51712  file=/a.img\n',
  );
});

test('levels stand in a column of their own', (t) => {
  const levels = [10, 20, 30, 40, 50, 60].map((level) => textLine({ level, time: at, msg: 'm' }).slice(13));
  t.deepEqual(levels, ['trace m\n', 'debug m\n', 'info  m\n', 'warn  m\n', 'error m\n', 'fatal m\n']);
});

test('a record without a message is its fields', (t) => {
  t.is(textLine({ level: 40, time: at, port: 3 }), '23:04:05.067 warn  port=3\n');
});

test("pino's own fields are left out", (t) => {
  t.notRegex(textLine({ level: 30, time: at, pid: 7, hostname: 'h', msg: 'm' }), /pid|hostname/);
});

test('values that could be mistaken are quoted and structures are JSON', (t) => {
  const line = textLine({ level: 30, time: at, msg: 'm', a: 'two words', b: 'x=1', c: '', d: '"', e: { f: [1] }, g: null });
  t.is(line, '23:04:05.067 info  m  a="two words"  b="x=1"  c=""  d="\\""  e={"f":[1]}  g=null\n');
});

test('no text of a guest can begin a line or command the terminal', (t) => {
  const hostile = '\n12:00:00.000 error  forged\r\u001b[2J\u009b31m\u0000\u007f\u2028';
  const line = textLine({ level: 30, time: at, msg: hostile, path: hostile, deep: { path: hostile } });
  t.notRegex(line.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028]/);
  t.true(line.endsWith('\n'));
  t.regex(line, /\\u001b\[2J/);
});

test('letters of other alphabets stay as they are', (t) => {
  t.regex(textLine({ level: 30, time: at, msg: 'Gerät größer', name: 'Ω' }), /Gerät größer {2}name=Ω/);
});
