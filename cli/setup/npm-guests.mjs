// `npm run test:guests`: prepares the clone, then boots the guests of vm-images/manifest.toml. Arguments go to the runner.
import { prepared } from './prepare.mjs';
import { openly } from './steps.mjs';

await prepared('demo', () => openly(process.execPath, ['dist/test/guest/matrix/main.js', ...process.argv.slice(2)]));
