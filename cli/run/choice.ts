import { OperatorError } from '../../shim/observe/errors.js';

/** An option's value, which must be one of a few words. @throws OperatorError */
export function choice<T extends string>(option: string, value: string, choices: readonly T[]): T {
  const found = choices.find((each) => each === value);
  if (found === undefined) {
    throw new OperatorError('USAGE', `--${option} cannot be '${value}'`, `use one of ${choices.join(', ')}`);
  }
  return found;
}
