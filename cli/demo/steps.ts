/** The steps of the demo. Each looks, inside the guest or on the host, and throws when it does not see what it should. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { withSbin } from '../../vm-images/process.js';
import { rootFileSystem } from './guest-boot.js';
import { ConsoleError } from './guest-console.js';
import type { GuestRun } from './guest-run.js';
import { GUEST_ADDRESS, HOST_ADDRESS } from './host-network.js';
import { SINK_PORT, SOURCE_PORT, TRANSFER_BYTES } from './tcp-peer.js';

/** The guest or the host does not show what it should. */
export class StepError extends Error {
  override readonly name = 'StepError';
}

export function check(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new StepError(otherwise);
}

const file = '/root/transfer';

/** Shell text that prints the name of a device's driver without starting a process. */
const driverOf = (device: string): string => `(cd -P ${device}/device/driver && echo "\${PWD##*/}")`;

/** Step 4 comes first in time: everything else is asked through this login. */
export async function loginStep({ console }: GuestRun): Promise<string> {
  await console.login();
  const [tty, user] = (await console.output('tty; id -un')).split('\n');
  check(tty === '/dev/hvc0', `the shell runs on ${tty}, not on /dev/hvc0`);
  check(user === 'root', `logged in as ${user}`);
  return `logged in as ${user} on ${tty}`;
}

export interface Identity {
  readonly guest: string;
  readonly kernel: string;
  readonly hypervisor: string;
}

/** What the guest says it is. */
export async function identity({ console }: GuestRun): Promise<Identity> {
  const lines = (await console.output('. /etc/os-release; echo "$PRETTY_NAME"; uname -r; dmesg | grep -m1 "Hypervisor detected"'))
    .split('\n');
  return {
    guest: lines[0] ?? 'unknown',
    kernel: lines[1] ?? 'unknown',
    hypervisor: /Hypervisor detected: (.*)/.exec(lines[2] ?? '')?.[1] ?? 'none',
  };
}

export async function kernelStep(run: GuestRun, hypervisor: string): Promise<string> {
  const { console, options } = run;
  const lines = (await console.output(
    'cat /sys/hypervisor/type /sys/hypervisor/guest_type; grep -c ^processor /proc/cpuinfo; ' +
    'cat /sys/devices/system/clocksource/clocksource0/current_clocksource',
  )).split('\n');
  const [type, guestType, cpus, clock] = lines;
  const wanted = options.boot === 'pvh' ? 'PVH' : 'HVM';
  check(hypervisor === 'Xen HVM', `the kernel log says "Hypervisor detected: ${hypervisor}"`);
  check(type === 'xen', `/sys/hypervisor/type is ${type}`);
  check(guestType === wanted, `/sys/hypervisor/guest_type is ${guestType}`);
  check(cpus === String(options.vcpus), `${cpus} vCPUs online, not ${options.vcpus}`);
  check(clock === 'xen', `the clocksource is ${clock}`);
  return `Hypervisor detected: ${hypervisor}; ${cpus} vCPUs; clocksource ${clock}`;
}

/** Writes the file; its checksum is compared with the image after the shutdown. */
export async function diskStep({ console }: GuestRun): Promise<{ detail: string; sha256: string }> {
  const [root, driver] = (await console.output(
    `while read -r what where _; do [ "$where" = / ] && echo "$what"; done < /proc/mounts; ${driverOf('/sys/block/xvda')}`,
  )).split('\n');
  check(root?.startsWith('/dev/xvda') === true, `the root file system is on ${root}`);
  check(driver === 'vbd', `xvda's driver is ${driver}`);
  const sum = await console.output(
    `perl -e 'open F, "/dev/urandom"; read F, $b, 1048572; for (1 .. 64) { print pack("N", $_), $b }' | ` +
    `dd of=${file} bs=1M iflag=fullblock conv=fsync status=none && stat -c %s ${file} && sha256sum < ${file}`,
  );
  const [size, line] = sum.split('\n');
  check(size === String(TRANSFER_BYTES), `the file has ${size} bytes`);
  return { detail: `/ on ${root} (${driver}); 64 MiB written with fsync`, sha256: line!.slice(0, 64) };
}

/** After the shutdown: the same bytes in the image, and a file system without faults. */
export async function imageStep({ disk }: GuestRun, sha256: string): Promise<string> {
  const root = rootFileSystem(disk);
  const seen = await hashOf('debugfs', ['-R', `cat ${file}`, root]);
  check(seen.sha256 === sha256, `the image holds ${seen.bytes} bytes with SHA-256 ${seen.sha256}, the guest wrote ${sha256}`);
  const fsck = await hashOf('e2fsck', ['-fn', root]);
  check(fsck.status === 0, `e2fsck -fn ended with ${fsck.status}`);
  return 'same SHA-256 in the image; e2fsck clean';
}

export async function networkStep({ console, network }: GuestRun, sha256: string): Promise<string> {
  const [driver, address] = (await console.output(
    `${driverOf('/sys/class/net/eth0')}; ip -color=never -4 -o addr show eth0`,
  )).split('\n');
  check(driver === 'vif', `eth0's driver is ${driver}`);
  check(address?.includes(` ${GUEST_ADDRESS}/24 `) === true, `eth0 has address ${address}`);
  const ping = await console.output(`ping -c 3 -i 0.2 ${HOST_ADDRESS}`);
  check(/ 0% packet loss/.test(ping), `ping: ${ping.split('\n').slice(-2)[0]}`);

  await console.output(`cat ${file} > /dev/tcp/${HOST_ADDRESS}/${SINK_PORT}`, 300);
  const received = await network.message('received');
  check(received.bytes === TRANSFER_BYTES, `the host received ${received.bytes} bytes`);
  check(received.sha256 === sha256, 'what the host received has another SHA-256');
  const started = Date.now();
  const sum = await console.output(`sha256sum < /dev/tcp/${HOST_ADDRESS}/${SOURCE_PORT}`, 300);
  const seconds = (Date.now() - started) / 1000;
  const sent = await network.message('sent');
  check(sum.slice(0, 64) === sent.sha256, 'what the guest received has another SHA-256');
  const rate = (time: number): string => `${(TRANSFER_BYTES / 2 ** 20 / time).toFixed(1)} MiB/s`;
  return `driver ${driver}; ping; 64 MiB out at ${rate(received.seconds)}, in at ${rate(seconds)}, checksums equal`;
}

/** PCI classes of what a guest asks to have unplugged: IDE, SATA, SCSI and NVMe controllers, and NICs. */
const unpluggable = /^0x(0100|0101|0106|0108|02)/;

export async function unplugStep({ console }: GuestRun): Promise<string> {
  const listing = await console.output(
    'for d in /sys/bus/pci/devices/*; do read -r class < $d/class; echo "pci ${d##*/} $class"; done; ' +
    'for b in /sys/block/*; do echo "block ${b##*/}"; done; for n in /sys/class/net/*; do echo "net ${n##*/}"; done',
  );
  const lines = listing.split('\n').map((line) => line.split(' '));
  const controllers = lines.filter(([kind, , pciClass]) => kind === 'pci' && unpluggable.test(pciClass ?? ''));
  const disks = lines.filter(([kind, name]) => kind === 'block' && !/^(xvd|loop|ram)/.test(name ?? ''));
  const nics = lines.filter(([kind, name]) => kind === 'net' && name !== 'lo' && name !== 'eth0');
  const seen = [...controllers, ...disks, ...nics].map((words) => words.join(' '));
  check(seen.length === 0, `still there: ${seen.join(', ')}`);
  const pci = lines.filter(([kind]) => kind === 'pci').length;
  check(pci > 0, 'the guest lists no PCI device at all, so this proves nothing');
  return `QEMU has a disk and an e1000; among the guest's ${pci} PCI devices there is neither`;
}

export async function poweroffStep(run: GuestRun): Promise<string> {
  await run.saveXenstore();
  run.shutdown();
  const exit = await run.ended(180);
  if (exit === undefined) throw new ConsoleError('the guest did not power off within 180 s');
  check(exit.status === 0, `xenshim and QEMU ended with ${exit.status}: ${run.lastLog()}`);
  const left = await run.leftovers();
  check(left.length === 0, `left behind: ${left.join(', ')}`);
  return 'control/shutdown obeyed; QEMU and xenshim ended with 0; nothing left';
}

/** Runs a program and hashes its standard output. */
export function hashOf(program: string, args: string[]): Promise<{ status: number; bytes: number; sha256: string }> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    let bytes = 0;
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, PATH: withSbin(process.env['PATH']) },
    });
    child.stdout.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    child.once('error', reject);
    child.once('close', (status) => {
      resolve({ status: status ?? 1, bytes, sha256: hash.digest('hex') });
    });
  });
}
