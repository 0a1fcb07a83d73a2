/** `xenshim xenstore NAME ls|read|write|rm …`, for hosts without xenstore-utils. */
import { OperatorError } from '../../shim/observe/errors.js';
import { parseOptions } from '../arguments.js';
import { ask } from './client.js';

const USAGE = `usage: xenshim xenstore NAME ls [PATH]
       xenshim xenstore NAME read PATH
       xenshim xenstore NAME write PATH VALUE
       xenshim xenstore NAME rm PATH

The distribution's xenstore-ls and its kin work too: see \`xenstore\` in the guest's run-time folder, XENSTORED_PATH.
`;

export async function xenstore(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseOptions('xenstore', {
    args: [...argv],
    allowPositionals: true,
    options: { help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [name, verb, path, value] = positionals;
  const wanted: Readonly<Record<string, readonly number[]>> = { ls: [2, 3], read: [3], write: [4], rm: [3] };
  if (name === undefined || verb === undefined || !Object.hasOwn(wanted, verb)
    || !wanted[verb]!.includes(positionals.length)) {
    throw new OperatorError('USAGE', 'xenstore takes a guest, a verb and a path', 'see `xenshim xenstore --help`');
  }
  const answer = await ask(name, `xenstore-${verb}`, { path: path ?? '/', value });
  if (typeof answer === 'string') process.stdout.write(`${answer}\n`);
  return 0;
}
