import test from 'ava';

import { openDisk } from '../../../../backends/block/target/open-disk.js';
import { exercise } from '../exercise.js';
import { BlockLab } from '../lab.js';
import { rawContent, storageDaemon, toImage } from './storage.js';

const SECTORS = 32768;

for (const { format, ending, options, queues } of [
  { format: 'qcow2', ending: 'qcow2', options: '', queues: 4 },
  { format: 'vmdk', ending: 'vmdk', options: '', queues: 1 },
  { format: 'vpc', ending: 'vhd', options: 'force_size=on', queues: 1 },
  { format: 'vdi', ending: 'vdi', options: '', queues: 1 },
  { format: 'vhdx', ending: 'vhdx', options: '', queues: 2 },
]) {
  storageDaemon(test)(`random reads and writes of a ${format} image keep the data right`, async (t) => {
    const lab = new BlockLab();
    const raw = lab.image(SECTORS);
    const model = lab.read(raw);
    const path = toImage(raw, format, `${raw}.${ending}`, options);
    const image = await openDisk(path, { readonly: false, queues, log: lab.log });
    t.is(image.target.sectors, SECTORS);
    const backend = lab.backend(path, { image, maxQueues: queues });
    const front = lab.front(0, { queues, order: 2 });
    await front.connect();
    t.is(front.backendKey('sectors'), String(SECTORS));
    t.deepEqual(await exercise(front, lab, model, 40, queues), []);
    t.is(await front.flush(), 0);
    t.deepEqual(front.complaints, []);
    await front.disconnect();
    await backend.close();
    t.true(rawContent(path, format).equals(model));
    t.is(await lab.close(), 0);
  });
}
