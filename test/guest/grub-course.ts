/** GRUB as a PVH guest: a program of another kind than Linux that speaks Xen's console, block and grant protocols. */
import type { GuestRun } from '../../cli/demo/guest-run.js';
import type { Course } from '../../cli/demo/session.js';
import { check, type Identity } from '../../cli/demo/steps.js';

export const grubTitles = {
  prompt: 'reaches its prompt on the Xen console',
  list: 'lists the PV disk and its partitions',
  read: 'reads a file from the PV disk',
  poweroff: 'powers off with halt, and nothing is left',
} as const;
export type GrubStep = keyof typeof grubTitles;

const PROMPT = /grub> /;

/** Types a line, and returns what is printed up to the prompt after `expected`. */
async function command({ console }: GuestRun, line: string, expected: RegExp): Promise<string> {
  console.type(line);
  return console.waitFor(new RegExp(`${expected.source}[^]*?${PROMPT.source}`, 'm'), 120);
}

export async function enterGrub({ console }: GuestRun): Promise<Identity> {
  const banner = await console.waitFor(PROMPT, 120);
  const version = /GNU GRUB\s+version (\S+)/.exec(banner)?.[1] ?? 'unknown';
  return { guest: 'GNU GRUB', kernel: version, hypervisor: 'Xen PVH' };
}

export const grubCourse: Course<GrubStep> = async (guest, steps, who) => {
  await steps.run('prompt', () => Promise.resolve(`GNU GRUB ${who.kernel}`));
  await steps.run('list', async () => {
    const output = await command(guest, 'ls', /\(xen\/xvda/);
    const found = output.match(/\(xen\/xvda(,msdos\d)?\)/g)?.sort().join(' ');
    check(found === '(xen/xvda) (xen/xvda,msdos1) (xen/xvda,msdos2)', `ls says ${JSON.stringify(output.slice(-200))}`);
    return found;
  });
  await steps.run('read', async () => {
    const output = await command(guest, 'cat (xen/xvda,msdos2)/etc/os-release', /(?:PRETTY_NAME="|error)/);
    const name = /PRETTY_NAME="(Debian [^"]*)"/.exec(output)?.[1];
    check(name !== undefined, `cat says ${JSON.stringify(output.slice(-200))}`);
    return `/etc/os-release: ${name}`;
  });
  await steps.run('poweroff', async () => {
    await guest.saveXenstore();
    guest.console.type('halt');
    const exit = await guest.ended(60);
    check(exit !== undefined, 'GRUB did not halt within 60 s');
    check(exit.status === 0, `xenshim and QEMU ended with ${exit.status}: ${guest.lastLog()}`);
    const left = await guest.leftovers();
    check(left.length === 0, `left behind: ${left.join(', ')}`);
    return 'halt powers off; QEMU and xenshim ended with 0; nothing left';
  });
};
