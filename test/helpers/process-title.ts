/** Loaded before each test file (package.json, `ava.require`): a process that hangs can be told by its name. */
import test from 'ava';

process.title = `test ${new URL(test.meta.file).pathname}`;
