/**
 * The lab host: a Debian under QEMU's software CPU with emulated AMD SVM, so that KVM with Xen support is real inside.
 *
 * One CPU and `thread=single`, on purpose. QEMU's VMRUN leaves the vector it injected in `exception_index` until the next
 * exception or exit; if anything makes the CPU thread leave its loop before that, the vector is delivered a second time
 * and the guest dies. The timer that alternates between CPUs does just that ten times a second; with one CPU it never
 * runs. `thread=multi` kicks CPUs at each other's TLB flushes, and crashes the lab host itself now and then.
 */
import { spawn } from 'node:child_process';
import { openSync, closeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { OperatorError } from '../../shim/observe/errors.js';
import type { BuiltImage } from '../build.js';

export interface Machine {
  readonly host: BuiltImage;
  /** MiB; taken from this machine only as it is used. */
  readonly memory: number;
  /** Further disks after the root, in order: /dev/vdb, /dev/vdc … Writes to any disk are thrown away. */
  readonly disks: readonly string[];
  /** Folder shared with the lab over 9p. */
  readonly jobDir: string;
  /** Folder for sockets and logs. */
  readonly work: string;
  /** Standard output and error of the job. */
  readonly onOutput: (chunk: Buffer) => void;
  readonly timeoutSeconds: number;
}

const kernelArguments = [
  'console=ttyS0', 'quiet', 'panic=-1', 'oops=panic', 'mitigations=off', 'nokaslr', 'tsc=reliable', 'no_timer_check',
  'nowatchdog', 'random.trust_cpu=on',
].join(' ');

/** Runs the lab host until it powers off. `false`: it was stopped for taking longer than `timeoutSeconds`. */
export async function runMachine(machine: Machine): Promise<boolean> {
  const outputSocket = join(machine.work, 'out.sock');
  const server = await listen(outputSocket, machine.onOutput);
  const log = openSync(join(machine.work, 'qemu.log'), 'a');
  try {
    return await runQemu(qemuArguments(machine, outputSocket), log, machine.timeoutSeconds);
  } finally {
    closeSync(log);
    server.close();
  }
}

function qemuArguments(machine: Machine, outputSocket: string): string[] {
  const disk = (file: string): string[] => ['-drive', `file=${file},if=virtio,format=raw,snapshot=on,cache=unsafe`];
  return [
    '-accel', 'tcg,thread=single', '-cpu', 'EPYC,+svm,+npt', '-smp', '1', '-m', String(machine.memory),
    '-nodefaults', '-display', 'none', '-no-reboot', '-nic', 'none',
    '-kernel', machine.host.kernel, '-initrd', machine.host.initrd, '-append', kernelArguments,
    '-serial', `file:${join(machine.work, 'console.log')}`,
    ...[machine.host.disk, ...machine.disks].flatMap(disk),
    '-virtfs', `local,path=${machine.jobDir},mount_tag=job,security_model=none`,
    '-device', 'virtio-serial-pci', '-chardev', `socket,id=out,path=${outputSocket}`,
    '-device', 'virtserialport,chardev=out,name=out',
  ];
}

function listen(path: string, onOutput: (chunk: Buffer) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket: Socket) => {
      socket.on('data', onOutput);
      socket.on('error', () => {}); // QEMU ends: what it had to say has been said
    });
    server.once('error', reject);
    server.listen(path, () => {
      resolve(server);
    });
  });
}

function runQemu(args: string[], log: number, timeoutSeconds: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const qemu = spawn('qemu-system-x86_64', args, { stdio: ['ignore', log, log] });
    let inTime = true;
    const timer = setTimeout(() => {
      inTime = false;
      qemu.kill('SIGKILL');
    }, timeoutSeconds * 1000);
    const stop = (): void => {
      qemu.kill('SIGKILL');
    };
    process.once('exit', stop);
    qemu.once('error', () => {
      clearTimeout(timer);
      reject(new OperatorError('PROGRAM_MISSING', 'qemu-system-x86_64 is not installed', 'apt-get install qemu-system-x86'));
    });
    qemu.once('exit', () => {
      clearTimeout(timer);
      process.removeListener('exit', stop);
      resolve(inTime);
    });
  });
}
