/**
 * Three kinds of trouble, three conventions: a guest's mistake is a value (a negative errno, a grant status, a wire
 * error name) and never one of these; an operator's mistake is an OperatorError; anything else thrown is our own bug.
 */

/** Exit status of the command: 2 = used wrongly or an input is not usable, 3 = this host cannot do it. */
export type OperatorExit = 2 | 3;

/** An operator's mistake: one line that says what is wrong and the way out. */
export class OperatorError extends Error {
  override readonly name = 'OperatorError';

  /**
   * @param code stable, for scripts: `DISK_LOCKED`, `TAP_PERMISSION` …
   * @param message what is wrong, naming the thing
   * @param remedy the way out, as an imperative
   */
  constructor(
    readonly code: string,
    message: string,
    readonly remedy: string,
    readonly exitStatus: OperatorExit = 2,
  ) {
    super(message);
  }

  /** The one line an operator sees. */
  get line(): string {
    return `${this.message}: ${this.remedy} [${this.code}]`;
  }
}

/** A guest-visible failure inside backend code that must end a connection attempt: carries Xen's error number. */
export class XenError extends Error {
  override readonly name = 'XenError';

  /** @param errno positive Xen error number (shim/abi/errno.ts) */
  constructor(
    readonly errno: number,
    message: string,
  ) {
    super(message);
  }
}
