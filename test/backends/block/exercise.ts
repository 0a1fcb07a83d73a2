/** Reads and writes that check every byte against a model of the disk. */
import type { FakeBlkfront } from '../../helpers/fake-frontend-blkif.js';
import type { GuestPage } from '../../helpers/fake-frontend-guest.js';
import type { BlockLab } from './lab.js';

/** xorshift32: the same requests every time. */
function randomly(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Random reads and writes of 1 to 40 pages, several in flight, each checked against a copy of the disk. */
export async function exercise(
  front: FakeBlkfront,
  lab: BlockLab,
  model: Buffer,
  rounds: number,
  queues: number,
  /** Runs with the pages there, whatever becomes of them afterwards. */
  touch: (pages: readonly GuestPage[], act: () => void) => void = (_pages, act) => act(),
): Promise<string[]> {
  const random = randomly(12345);
  const wrong: string[] = [];
  const sectors = model.length / 512;
  // Each lane has its own part of the disk, so that the model is exact while lanes overlap in time.
  const lanes = 8;
  const part = Math.floor(sectors / lanes);
  const pool = Array.from({ length: lanes }, () => Array.from({ length: 40 }, () => lab.guest.page()));
  const lane = async (index: number, pages: readonly GuestPage[]): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      const count = 1 + random(random(4) === 0 ? 40 : 8);
      const sector = index * part + random(part - count * 8);
      const used = pages.slice(0, count);
      const write = random(2) === 0;
      if (write) {
        touch(used, () => {
          for (const page of used) {
            const value = random(2 ** 31);
            for (let word = 0; word < 1024; word++) page.i32[word] = value + word;
          }
          for (const [i, page] of used.entries()) model.set(page.u8, sector * 512 + i * 4096);
        });
      }
      const status = await front.transfer(write, sector, used, index % queues);
      if (status !== 0) wrong.push(`status ${status}`);
      if (write) continue;
      touch(used, () => {
        for (const [i, page] of used.entries()) {
          const at = sector * 512 + i * 4096;
          if (!model.subarray(at, at + 4096).equals(page.u8)) wrong.push(`page ${i} at sector ${sector}`);
        }
      });
    }
  };
  await Promise.all(pool.map((pages, index) => lane(index, pages)));
  for (const pages of pool) for (const page of pages) lab.guest.freePage(page);
  return wrong;
}
