/** Boots of a benchmark's guest: the lab's software CPU loses one now and then, under either side (decision 7). */
import { ConsoleError } from '../../../cli/demo/guest-console.js';
import { BenchGuest, type BenchGuestOptions } from './bench-guest.js';

/** A guest without a prompt after this long is stuck, s. */
export const PATIENCE = 120;
const LAB_ATTEMPTS = 3;

/**
 * Starts a guest and waits for what `up` waits for. One that never gets there is told of and closed; in the lab it is
 * booted again.
 * @param lost called for each that is booted again
 */
export async function bootAtLast<Result>(
  options: () => BenchGuestOptions,
  up: (guest: BenchGuest) => Promise<Result>,
  say: (line: string) => void,
  lost: () => void = () => {},
): Promise<{ readonly guest: BenchGuest; readonly result: Result }> {
  for (let attempt = 1; ; attempt++) {
    const guest = await BenchGuest.start(options());
    try {
      return { guest, result: await up(guest) };
    } catch (error) {
      const { side } = guest.options;
      say(`${guest.name}: ${guest.lastLog()}\n${await guest.stuckAt()}`);
      await guest.close();
      if (!(error instanceof ConsoleError) || process.env['XENSHIM_LAB'] === undefined || attempt >= LAB_ATTEMPTS) throw error;
      lost();
      say(`${side} did not get to its prompt and is booted again: ${error.message}`);
    }
  }
}
