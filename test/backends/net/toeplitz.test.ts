import test from 'ava';
import fc from 'fast-check';
import { Toeplitz, TOEPLITZ_KEY_BYTES } from '../../../backends/net/toeplitz.js';

/** The key and vectors of "Verifying the RSS Hash Calculation" (Windows driver documentation). */
const KEY = Uint8Array.from(
  Buffer.from('6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa', 'hex'),
);

const v4 = (address: string): number[] => address.split('.').map(Number);

function v6(address: string): number[] {
  const [head = '', tail = ''] = address.split('::');
  const words = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const middle = new Array<string>(8 - words(head).length - words(tail).length).fill('0');
  return [...words(head), ...middle, ...words(tail)].flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]);
}

const port = (number: number): number[] => [number >> 8, number & 255];

/** source, destination, source port, destination port; hash with the ports, hash of the addresses alone. */
const vectors4: readonly (readonly [string, string, number, number, number, number])[] = [
  ['66.9.149.187', '161.142.100.80', 2794, 1766, 0x51ccc178, 0x323e8fc2],
  ['199.92.111.2', '65.69.140.83', 14230, 4739, 0xc626b0ea, 0xd718262a],
  ['24.19.198.95', '12.22.207.184', 12898, 38024, 0x5c2b394a, 0xd2d0a5de],
  ['38.27.205.30', '209.142.163.6', 48228, 2217, 0xafc7327f, 0x82989176],
  ['153.39.163.191', '202.188.127.2', 44251, 1303, 0x10e828a2, 0x5d1809c5],
];
const vectors6: typeof vectors4 = [
  ['3ffe:2501:200:1fff::7', '3ffe:2501:200:3::1', 2794, 1766, 0x40207d3d, 0x2cc18cd5],
  ['3ffe:501:8::260:97ff:fe40:efab', 'ff02::1', 14230, 4739, 0xdde51bbf, 0x0f0c461c],
  ['3ffe:1900:4545:3:200:f8ff:fe21:67cf', 'fe80::200:f8ff:fe21:67cf', 44251, 38024, 0x02d1feef, 0x4b61e985],
];

for (const [version, bytes, vectors] of [[4, v4, vectors4], [6, v6, vectors6]] as const) {
  test(`addresses and ports of IPv${version} hash as the published vectors say`, (t) => {
    const toeplitz = new Toeplitz();
    toeplitz.setKey(KEY);
    for (const [source, destination, from, to, withPorts, without] of vectors) {
      const addresses = [...bytes(source), ...bytes(destination)];
      const whole = Uint8Array.from([...addresses, ...port(from), ...port(to)]);
      t.is(toeplitz.hash(whole, 0, whole.length), withPorts, source);
      t.is(toeplitz.hash(whole, 0, addresses.length), without, source);
    }
  });
}

test('the hash of any input under any key is what the definition says, bit by bit, also in parts', (t) => {
  const key = fc.uint8Array({ minLength: TOEPLITZ_KEY_BYTES, maxLength: TOEPLITZ_KEY_BYTES });
  const input = fc.uint8Array({ minLength: 1, maxLength: 36 });
  const toeplitz = new Toeplitz();
  fc.assert(
    fc.property(key, input, fc.nat(36), (keyBytes, bytes, cut) => {
      toeplitz.setKey(keyBytes);
      let expected = 0n;
      let window = BigInt(`0x${Buffer.from(keyBytes).toString('hex')}`);
      const width = BigInt(keyBytes.length * 8);
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        if ((bytes[bit >> 3]! & (0x80 >> (bit & 7))) !== 0) expected ^= (window >> (width - 32n)) & 0xffffffffn;
        window = (window << 1n) & ((1n << width) - 1n);
      }
      const first = Math.min(cut, bytes.length);
      const parts = toeplitz.part(bytes, 0, first, 0) ^ toeplitz.part(bytes, first, bytes.length - first, first);
      return toeplitz.hash(bytes, 0, bytes.length) === Number(expected) && parts >>> 0 === Number(expected);
    }),
    { numRuns: 200 },
  );
  t.pass();
});
