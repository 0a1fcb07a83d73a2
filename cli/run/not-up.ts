import { OperatorError } from '../../shim/observe/errors.js';

/** What a command for the guest answers before the guest's kernel has found Xen. */
export const notUp = (): never => {
  throw new OperatorError('NOT_UP', 'the guest has not found Xen yet', 'try again when its kernel runs');
};
