/**
 * The lab by hand: `node dist/vm-images/lab.js [options] -- COMMAND …` runs a shell command in the lab beside this
 * checkout; `--script FILE` runs a script; `build` only builds the images.
 */
import { parseArgs } from 'node:util';
import { basename } from 'node:path';
import { OperatorError } from '../shim/observe/errors.js';
import { guestDisk } from './lab/guest-disk.js';
import { runJob } from './lab/job.js';
import { builtImage } from './build.js';
import { imageSpec } from './manifest.js';

const usage = `usage: node dist/vm-images/lab.js [options] --script FILE | -- COMMAND …
       node dist/vm-images/lab.js build
  --host NAME      lab host of vm-images/manifest.toml (trixie)
  --guest NAME     guest image to have at /images/NAME; repeatable (trixie)
  --file FILE      file to have at /job; repeatable
  --env NAME=VALUE environment of the command; repeatable
  --memory MIB     memory of the lab host (6144)
  --timeout S      stop the lab after S seconds (1200)
  --results DIR    where /job/results and the lab's console log go`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: 'string', default: 'trixie' },
      guest: { type: 'string', multiple: true, default: ['trixie'] },
      file: { type: 'string', multiple: true, default: [] },
      env: { type: 'string', multiple: true, default: [] },
      memory: { type: 'string', default: '6144' },
      timeout: { type: 'string', default: '1200' },
      results: { type: 'string' },
      script: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const progress = (line: string): void => {
    process.stderr.write(`lab: ${line}\n`);
  };
  if (positionals[0] === 'build') {
    await Promise.all([
      builtImage(imageSpec('hosts', values.host), progress),
      guestDisk(values.guest.map((name) => imageSpec('guests', name)), progress),
    ]);
    return 0;
  }
  const command = values.script === undefined ? positionals.join(' ') : `sh /job/${basename(values.script)}`;
  if (values.help || command === '') {
    process.stdout.write(`${usage}\n`);
    return values.help ? 0 : 2;
  }
  return await runJob({
    command,
    files: values.script === undefined ? values.file : [...values.file, values.script],
    env: Object.fromEntries(values.env.map((pair) => [pair.split('=')[0]!, pair.slice(pair.indexOf('=') + 1)])),
    host: values.host,
    guests: values.guest,
    memory: Number(values.memory),
    timeoutSeconds: Number(values.timeout),
    onOutput: (chunk) => process.stdout.write(chunk),
    progress,
    ...(values.results === undefined ? {} : { results: values.results }),
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  process.stderr.write(`${error.line}\n`);
  process.exitCode = error.exitStatus;
}
