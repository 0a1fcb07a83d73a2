// `npm run demo`: prepares the clone, then boots a Debian guest and reports what it saw. Arguments go to the demo.
import { prepared } from './prepare.mjs';
import { openly } from './steps.mjs';

await prepared('demo', () => openly(process.execPath, ['dist/cli/demo/main.js', ...process.argv.slice(2)]));
