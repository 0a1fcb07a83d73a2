/** `npm run docs`: brings the parts of README.md that are made from code up to date. */
import { readFileSync, writeFileSync } from 'node:fs';
import { withSupportTable } from './support-table.js';

const readme = new URL('../../../README.md', import.meta.url);
writeFileSync(readme, withSupportTable(readFileSync(readme, 'utf8')));
