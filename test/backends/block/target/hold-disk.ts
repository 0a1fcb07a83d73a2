/** A script of its own process: opens a disk, says so, and stays. */
import { openDisk } from '../../../../backends/block/target/open-disk.js';
import { silentLog } from '../../../../shim/observe/log.js';

await openDisk(process.argv[2]!, { readonly: false, queues: 1, log: silentLog });
console.log('open');
setInterval(() => {}, 1000);
