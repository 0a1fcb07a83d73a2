import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { SystemClock } from '../../../shim/domain/clock.js';
import { PreciseAlarm } from '../../../shim/domain/precise-alarm.js';
import type { Bridge } from '../../../kvm/bridge.js';
import { eventually } from '../../helpers/guest.js';

/** An alarm by the host's own clock, and how often it has rung. */
function alarm(t: ExecutionContext): { set: (ms: number) => void; alarm: PreciseAlarm; rung: () => number } {
  const clock = new SystemClock({} as Bridge);
  let count = 0;
  const made = new PreciseAlarm(clock, () => count++);
  t.teardown(() => made.close());
  return { alarm: made, rung: () => count, set: (ms) => made.set(clock.now() + BigInt(ms * 1_000_000)) };
}

test('it rings once, not early, and at once for a time that is past', async (t) => {
  const { set, rung } = alarm(t);
  const started = performance.now();
  set(5);
  t.true(await eventually(() => rung() === 1));
  t.true(performance.now() - started >= 5);
  set(-1000);
  t.true(await eventually(() => rung() === 2));
  await sleep(20);
  t.is(rung(), 2);
});

test('set anew or stopped before its time, it does not ring for the earlier setting', async (t) => {
  const { set, rung, alarm: made } = alarm(t);
  set(2);
  set(40);
  // The first setting's time passes while nothing is looked at.
  for (const until = performance.now() + 10; performance.now() < until; );
  await sleep(5);
  t.is(rung(), 0);
  t.true(await eventually(() => rung() === 1));
  set(2);
  for (const until = performance.now() + 10; performance.now() < until; );
  made.stop();
  await sleep(10);
  t.is(rung(), 1, 'expired, and stopped before anybody heard it');
});

test('a time beyond all reason is never, and closing ends it', async (t) => {
  const { alarm: made, rung } = alarm(t);
  made.set(2n ** 63n - 1n);
  await sleep(5);
  t.is(rung(), 0);
  made.set(0n);
  made.close();
  made.close();
  await sleep(5);
  t.is(rung(), 0);
});
