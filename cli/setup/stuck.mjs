// Test processes that give no more signs of life. A thread of theirs may sleep in a system call for ever, where neither
// ava nor a signal Node would handle reaches it.
import { readFileSync, readdirSync } from 'node:fs';

/** Field of /proc/PID/stat, counted from the one behind the name (proc(5): state). */
const PGRP = 2;

/** Processes of a group that run a test file (test/helpers/process-title.ts), as `{ pid, file }`. */
export function testProcesses(group) {
  return readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).flatMap((entry) => {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[PGRP]) !== group) return [];
      const file = /^test .*\/dist\/([^\0]+)/.exec(readFileSync(`/proc/${entry}/cmdline`, 'utf8'))?.[1];
      return file === undefined ? [] : [{ pid: Number(entry), file }];
    } catch {
      return [];
    }
  });
}

/** Ends a process or, with a negative number, a group; one that is gone already is no matter. */
export function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
