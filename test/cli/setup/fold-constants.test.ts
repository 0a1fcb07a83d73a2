import test from 'ava';
import ts from 'typescript';
// Not compiled with the project: it compiles the project.
const { foldConstants } = (await import(new URL('../../../../cli/setup/fold-constants.mjs', import.meta.url).href)) as {
  foldConstants(program: ts.Program): ts.TransformerFactory<ts.SourceFile>;
};

const TABLE = `
  import { constants } from './shim/abi/constants.ts';
  import { struct } from './shim/abi/struct.ts';
  import { constants as other } from './other.mjs';
  export const ONE = 1;
  export const SHIFT = ONE << 4;
  export const MINUS = -SHIFT;
  export let variable = 5;
  export const Frozen = Object.freeze({ A: 2, B: SHIFT | ONE, text: 'x' } as const);
  export const open = { A: 3 };
  export const late = Number('7');
  export const Flags = constants('xen.h', { C: 1 << 2 });
  export const Layout = struct({ size: 24 }, { first: u32(0), second: u32(SHIFT) });
  export const Others = other('xen.h', { C: 1 << 2 });
`;

/** What a second file compiles to that imports all of the first. */
function compiled(source: string): string {
  const files = new Map([
    ['/table.mts', TABLE],
    ['/shim/abi/constants.ts', 'export declare function constants<T>(header: string, values: T): T;'],
    ['/shim/abi/struct.ts', 'export declare function struct<T>(info: object, fields: T): T;'],
    ['/other.mts', 'export declare function constants<T>(header: string, values: T): T;'],
    ['/user.mts', `import { ONE, SHIFT, MINUS, variable, Frozen, open, late, Flags, Layout, Others } from './table.mjs';\n${source}`],
  ]);
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
    noLib: true, verbatimModuleSyntax: true, types: [],
  };
  const host: ts.CompilerHost = {
    getSourceFile: (name, target) => {
      const text = files.get(name);
      return text === undefined ? undefined : ts.createSourceFile(name, text, target);
    },
    getDefaultLibFileName: () => 'lib.d.ts',
    writeFile: (name, text) => files.set(name, text),
    getCurrentDirectory: () => '/',
    getCanonicalFileName: (name) => name,
    useCaseSensitiveFileNames: () => true,
    getNewLine: () => '\n',
    fileExists: (name) => files.has(name),
    readFile: (name) => files.get(name),
  };
  const program = ts.createProgram(['/user.mts', '/table.mts'], { ...options, allowImportingTsExtensions: true }, host);
  program.emit(undefined, undefined, undefined, false, { before: [foldConstants(program)] });
  return files.get('/user.mjs')!.split('\n').slice(1).join('\n').trim();
}

test('an imported constant stands as its number, computed ones too', (t) => {
  t.is(compiled('export const f = (x: number) => (x & SHIFT) + ONE * x;'), 'export const f = (x) => (x & 16) + 1 * x;');
});

test('a negative number keeps its brackets', (t) => {
  t.is(compiled('export const f = (x: number) => 2 - MINUS;'), 'export const f = (x) => 2 - (-16);');
});

test('members of a frozen table are folded, its texts are not', (t) => {
  t.is(compiled('export const f = (x: number) => [x + Frozen.B, Frozen.text];'), 'export const f = (x) => [x + 17, Frozen.text];');
});

test('so are the numbers and layouts of shim/abi, and no others', (t) => {
  const line = 'export const f = (x) => [x & 4, x + 16, 24, Others.C];';
  t.is(compiled('export const f = (x: number) => [x & Flags.C, x + Layout.second, Layout.SIZE, Others.C];'), line);
});

test('what may change stays: variables, open tables, values of calls', (t) => {
  const line = 'export const f = (x) => [variable, open.A, late];';
  t.is(compiled('export const f = (x: number) => [variable, open.A, late];'), line);
});

test('a name that is only spelt like a constant stays', (t) => {
  const line = 'export const f = (ONE) => ({ SHIFT: ONE, MINUS() { return ONE; } }).SHIFT;';
  t.is(compiled('export const f = (ONE: number) => ({ SHIFT: ONE, MINUS() { return ONE; } }).SHIFT;'), line);
});

test('shorthand members and exports keep the name', (t) => {
  t.is(compiled('export { ONE };\nexport const f = () => ({ ONE });'), 'export { ONE };\nexport const f = () => ({ ONE });');
});
