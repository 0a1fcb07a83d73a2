/** Persistent grants between a driver of ours and one of a guest's: who wants them, and what becomes of them. */
import test from 'ava';

import { BlockLab } from './lab.js';

for (const ours of [false, true]) {
  for (const theirs of [false, true]) {
    test(`grants stay mapped only if both sides want that: ours ${ours}, the frontend's ${theirs}`, async (t) => {
      const lab = new BlockLab();
      const backend = lab.backend(lab.image(2048), { persistent: ours });
      const front = lab.front(0, { persistent: theirs });
      for (let connection = 0; connection < 2; connection++) {
        await front.connect();
        t.is(front.backendKey('feature-persistent'), ours ? '1' : undefined);
        const pages = Array.from({ length: 12 }, () => lab.guest.page());
        for (let i = 0; i < 5; i++) t.is(await front.transfer(i % 2 === 0, 0, pages), 0);
        const { persistent, persistent_in_use } = backend.stats();
        t.deepEqual([persistent, persistent_in_use], [ours && theirs ? 12 : 0, 0]);
        // The ring is mapped all the time.
        t.is(lab.guest.stats().handles, ours && theirs ? 13 : 1);
        await front.disconnect();
        t.is(backend.stats().persistent, 0);
        t.is(lab.guest.stats().handles, 0);
      }
      t.deepEqual(front.complaints, []);
      t.is(await lab.close(), 0);
    });
  }
}

test('E66: a frontend with more persistent grants than are kept is served, with one line in the log', async (t) => {
  const lab = new BlockLab();
  const path = lab.image(32768);
  const backend = lab.backend(path, { persistent: true });
  const front = lab.front(0, { persistent: true });
  await front.connect();
  const image = lab.read(path);
  const lists = Array.from({ length: 6 }, () => Array.from({ length: 256 }, () => lab.guest.page()));
  for (let round = 0; round < 3; round++) {
    t.deepEqual(await Promise.all(lists.map((pages, i) => front.transfer(false, 2048 * i, pages))), new Array(6).fill(0));
    for (const [i, pages] of lists.entries()) {
      t.true(pages.every(({ u8 }, at) => image.subarray((2048 * i + 8 * at) * 512).subarray(0, 4096).equals(u8)));
    }
  }
  const { persistent, grant_overflow, errors } = backend.stats();
  t.true(persistent <= 1056);
  t.true(grant_overflow > 0);
  t.is(errors, 0);
  t.is(lab.messages.filter((message) => message.includes('more persistent grants')).length, 1);
  await front.disconnect();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});

test('a machine that is reset gets its persistent grants back', async (t) => {
  const lab = new BlockLab();
  const backend = lab.backend(lab.image(2048), { persistent: true });
  const front = lab.front(0, { persistent: true });
  await front.connect();
  t.is(await front.transfer(true, 0, [lab.guest.page()]), 0);
  await backend.letGo();
  t.like(lab.guest.stats(), { handles: 0, pinnedRefs: 0 });
  front.takeBack();
  t.deepEqual(front.complaints, []);
  t.is(await lab.close(), 0);
});
