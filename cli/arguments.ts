/** parseArgs with our kind of error. */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { OperatorError } from '../shim/observe/errors.js';

/** As node:util's parseArgs, strict; an unknown or incomplete option is an OperatorError. */
export function parseOptions<T extends ParseArgsConfig>(
  command: string, config: T, help = `xenshim ${command} --help`,
): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    // The first sentence says what is wrong; what follows is advice over several lines.
    const [reason] = (error as Error).message.split(/\.\s/);
    throw new OperatorError('USAGE', reason!, `see \`${help}\``);
  }
}
