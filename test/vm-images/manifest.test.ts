import test from 'ava';
import { loadManifest, parseManifest } from '../../vm-images/manifest.js';

const text = `
[hosts.h]
title = "a host"
suite = "trixie"
recipe = "r"
size = "1G"
packages = ["p"]
[guests.g]
title = "an image"
suite = "trixie"
recipe = "r"
size = "1G"
packages = ["p"]
[matrix.m]
title = "a guest"
image = "g"
kernel = "6.12"
machines = ["pc"]
hosts = ["h"]
course = "linux"
`;

test('the manifest of the project is read, and its defaults are there', (t) => {
  const { matrix } = loadManifest();
  t.true(matrix['trixie']!.usual);
  t.is(matrix['trixie-large']!.memory, 6144);
  const { vcpus, memory, usual, steps } = parseManifest(text).matrix['m']!;
  t.deepEqual({ vcpus, memory, usual, steps }, { vcpus: 2, memory: 512, usual: false, steps: undefined });
});

const wrong: Record<string, [from: string, to: string, says: RegExp]> = {
  'a key nobody knows': ['course =', 'corse = "x"\ncourse =', /^vm-images\/manifest\.toml: matrix\.m: .*corse/],
  'a machine QEMU has not': ['"pc"', '"pcx"', /matrix\.m\.machines\.0: .*pc/],
  'an image that is not there': ['image = "g"', 'image = "other"', /matrix\.m: there is no guests\.other/],
  'a host that is not there': ['hosts = ["h"]', 'hosts = ["h", "other"]', /matrix\.m: there is no hosts\.other/],
  'text that is no TOML': ['[matrix.m]', '[matrix.m', /manifest\.toml: Invalid TOML/],
};
for (const [what, [from, to, says]] of Object.entries(wrong)) {
  test(`${what} in the manifest is one line`, (t) => {
    const error = t.throws(() => parseManifest(text.replace(from, to)), { message: says, code: 'MANIFEST' });
    t.false(error.message.includes('\n'));
  });
}
