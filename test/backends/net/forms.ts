/** Tests on a link in either form (backends/net/vif-link.ts): by io_uring, and by plain system calls. */
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { rigged } from './rig.js';

export const FORMS = [{ form: '', plain: false }, { form: ', by plain system calls', plain: true }] as const;

/** @param body is given `rigged` of the form */
export function eitherForm(title: string, body: (t: ExecutionContext, on: typeof rigged) => void): void {
  for (const { form, plain } of FORMS) {
    test(`${title}${form}`, (t) => {
      body(t, (use, options) => {
        rigged(use, { ...options, plain });
      });
    });
  }
}
