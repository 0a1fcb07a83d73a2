/** The command `xenshim`: finds the subcommand and turns an operator's mistake into one line and an exit status. */
import { OperatorError } from '../shim/observe/errors.js';
import { commands } from './commands.js';

const usage = (): string => {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return `usage: xenshim COMMAND [options]\n\n${lines.join('\n')}\n\n\`xenshim COMMAND --help\` tells more.\n`;
};

/** Runs the command line; resolves to the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(usage());
    return name === undefined ? 2 : 0;
  }
  try {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) {
      throw new OperatorError('UNKNOWN_COMMAND', `there is no command '${name}'`, 'see `xenshim help`');
    }
    return await command.run(rest);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    process.stderr.write(`xenshim: ${error.line}\n`);
    return error.exitStatus;
  }
}
