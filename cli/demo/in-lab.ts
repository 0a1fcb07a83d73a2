/** The part of `npm run demo` that runs in the lab: `in-lab.js MACHINE`; leaves report.json in $XENSHIM_RESULTS. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { demoSession } from './demo-session.js';

const results = process.env['XENSHIM_RESULTS'] ?? '.';
const report = await demoSession({
  image: join(process.env['XENSHIM_IMAGES'] ?? '.', 'trixie'),
  machine: process.argv[2] === 'pc' ? 'pc' : 'q35',
  say: (line) => process.stdout.write(`${line}\n`),
  logs: results,
});
writeFileSync(join(results, 'report.json'), JSON.stringify(report));
process.exitCode = report.ok ? 0 : 1;
