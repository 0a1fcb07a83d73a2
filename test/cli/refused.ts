import type { ExecutionContext } from 'ava';

import { OperatorError, type OperatorExit } from '../../shim/observe/errors.js';

/** Asserts that `act` is refused with this code, in one line, with a way out; returns that line. */
export function refused(t: ExecutionContext, code: string, act: () => unknown, exitStatus: OperatorExit = 2): string {
  return checked(t, code, exitStatus, t.throws(act, { instanceOf: OperatorError }));
}

/** As `refused`, of something that takes its time. */
export async function refusedLater(
  t: ExecutionContext, code: string, act: () => Promise<unknown>, exitStatus: OperatorExit = 2,
): Promise<string> {
  return checked(t, code, exitStatus, await t.throwsAsync(act, { instanceOf: OperatorError }));
}

function checked(t: ExecutionContext, code: string, exitStatus: OperatorExit, error: OperatorError | undefined): string {
  if (error === undefined) return '';
  t.is(error.code, code);
  t.is(error.exitStatus, exitStatus);
  t.notRegex(error.line, /[\n\r]/);
  t.true(error.remedy.length > 0);
  return error.line;
}
