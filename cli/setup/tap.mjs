// Reads ava's TAP output line by line, and counts. ava cannot skip a test that already runs: one that finds it cannot
// work here passes after `t.log('skipped: WHY')`, and counts as skipped.

/** One result: `{ ok, skipped, title, details }`. */
const RESULT = /^(ok|not ok) \d+ - (.*)$/;
const SKIPPED = /^#\s+skipped: /;

export class TapReader {
  passed = 0;
  failed = 0;
  skipped = 0;
  #report;
  #current;
  #rest = '';
  #finished = false;

  /** @param report called with each result when all that belongs to it has been read */
  constructor(report = () => {}) {
    this.#report = report;
  }

  push(chunk) {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  /** To be called at the end. A run that broke off, or that ends with a bad status for no visible reason, has failed. */
  end(status) {
    if (this.#rest !== '') this.#line(this.#rest);
    this.#rest = '';
    this.#flush();
    if (!this.#finished || (status !== 0 && this.failed === 0)) this.failed += 1;
  }

  #line(line) {
    const [, word, text] = RESULT.exec(line) ?? [];
    if (word !== undefined) {
      this.#flush();
      const title = text.replace(/ # (SKIP|TODO)$/, '');
      // A test still to be written is no test that passed; ava counts it as failed, too.
      this.#current = { ok: word === 'ok', skipped: text.endsWith(' # SKIP'), title, details: [] };
      return;
    }
    // After the plan come ava's own sums; its failures include tests that a crash kept from running.
    if (/^1\.\.\d+$/.test(line)) {
      this.#flush();
      this.#finished = true;
    }
    const sum = /^# fail (\d+)$/.exec(line);
    if (this.#finished && sum !== null) this.failed = Math.max(this.failed, Number(sum[1]));
    else if (this.#current !== undefined && /^(#| {2})/.test(line)) this.#current.details.push(line);
  }

  #flush() {
    const result = this.#current;
    this.#current = undefined;
    if (result === undefined) return;
    result.skipped ||= result.ok && result.details.some((line) => SKIPPED.test(line));
    if (!result.ok) this.failed += 1;
    else if (result.skipped) this.skipped += 1;
    else this.passed += 1;
    this.#report(result);
  }
}

/** `12 passed, 0 failed`, and `, 1 skipped` when there is something to say. */
export function summary({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
