/** The scripts of backends' threads. In the bundle (cli/setup/bundle.mjs) each is one file, in folders of the same names. */
const SCRIPTS = Object.freeze({
  disk: './block/worker.js',
  capture: './net/capture-worker.js',
  relay: './net/relay-worker.js',
  vif: './net/worker.js',
  vifControl: './net/control-worker.js',
});

export type ThreadName = keyof typeof SCRIPTS;

export const threadNames = Object.keys(SCRIPTS) as readonly ThreadName[];

export function threadScript(name: ThreadName): URL {
  return new URL(SCRIPTS[name], import.meta.url);
}
