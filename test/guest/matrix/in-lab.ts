/** The part that runs in the lab: `in-lab.js HOST GUEST/MACHINE…`; leaves each row's files in $XENSHIM_RESULTS. */
import { join } from 'node:path';
import { loadManifest } from '../../../vm-images/manifest.js';
import { selectRows } from './rows.js';
import { runRow } from './run-row.js';

const [host, ...names] = process.argv.slice(2);
const images = process.env['XENSHIM_IMAGES'] ?? '.';
const results = process.env['XENSHIM_RESULTS'] ?? '.';
const manifest = loadManifest();
const say = (line: string): void => void process.stdout.write(`${line}\n`);

for (const name of names) {
  const [guest, machine] = name.split('/');
  for (const row of selectRows(manifest, { guests: [guest!], hosts: [host!], machines: [machine!] })) {
    say(`${guest} on ${machine}:`);
    await runRow(row, join(images, row.entry.image), results, say);
  }
}
