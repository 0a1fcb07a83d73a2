/** `--backend FILE[,KEY[=VALUE]]…`: a backend of somebody else's, found and loaded before QEMU starts. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BackendFactory } from '../../shim/backend-kit.js';
import { OperatorError } from '../../shim/observe/errors.js';
import { words } from '../qemu/option-values.js';

export interface BackendOption {
  readonly file: string;
  readonly options: ReadonlyMap<string, string>;
}

/** A module that has been loaded. */
export interface BackendPart extends BackendOption {
  readonly factory: BackendFactory;
}

const HELP = 'see docs/writing-a-backend.md';

/** `,,` stands for a comma. @throws OperatorError USAGE */
export function parseBackend(text: string): BackendOption {
  const [file, ...rest] = words(text) as [string, ...string[]];
  const options = new Map<string, string>();
  for (const word of rest) {
    const [, key, value = 'on'] = /^([^=]+)(?:=([^]*))?$/.exec(word) ?? [];
    if (key === undefined || options.has(key)) {
      throw new OperatorError('USAGE', `--backend ${text}: '${word}' is no option, or there twice`, 'use FILE,KEY=VALUE…');
    }
    options.set(key, value);
  }
  if (file === '') throw new OperatorError('USAGE', `--backend '${text}' names no file`, 'use FILE,KEY=VALUE…');
  return { file, options };
}

/** @throws OperatorError BACKEND_MISSING, BACKEND_LOAD (it cannot be imported), BACKEND_EXPORT (it is no backend) */
export async function loadBackend(option: BackendOption): Promise<BackendPart> {
  const { file } = option;
  const path = resolve(file);
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new OperatorError('BACKEND_MISSING', `there is no file ${file}`, 'name a JavaScript module');
  }
  let module: { readonly default?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as typeof module;
  } catch (error) {
    throw new OperatorError('BACKEND_LOAD', `the backend ${file} cannot be loaded: ${firstLine(error)}`, HELP);
  }
  if (typeof module.default !== 'function') {
    throw new OperatorError('BACKEND_EXPORT', `${file} has no function as its default export`, HELP);
  }
  return { ...option, factory: module.default as BackendFactory };
}

export function firstLine(error: unknown): string {
  return (error instanceof OperatorError ? error.line : String(error)).split('\n', 1)[0]!;
}
