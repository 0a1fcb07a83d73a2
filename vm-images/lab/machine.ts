/**
 * The lab host: a Debian under QEMU's software CPU with emulated AMD SVM, so that KVM with Xen support is real inside.
 *
 * The QEMU is the lab host's own, run from its image with its libraries, because two faults decide what works. Up to
 * 8.0, a CPU thread can run code that another thread has just changed back, and a kernel that patches itself dies of it
 * ("Oops: int3"); since 8.1 pages are locked while they are translated, so a thread for each CPU is safe. And in every
 * release VMRUN leaves the vector it injected in `exception_index` until the next exception or exit; if the CPU's thread
 * leaves its loop before that, the vector is delivered a second time and the guest dies. With `thread=single` the timer
 * that alternates between CPUs does just that ten times a second; with a thread each, only memory-map changes and full
 * translation buffers could, hence the large buffer.
 */
import { spawn } from 'node:child_process';
import { openSync, closeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { OperatorError } from '../../shim/observe/errors.js';
import type { BuiltImage } from '../build.js';

export interface Machine {
  readonly host: BuiltImage;
  /** Features of the software CPU, as QEMU takes them behind the model: `-smap`. */
  readonly cpu?: string;
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
  // A CPU that never comes back from a guest stops all that waits for it, and sooner or later everything: that ends the lab.
  'hung_task_panic=1', 'sysctl.kernel.hung_task_timeout_secs=90',
  'rcupdate.rcu_cpu_stall_timeout=90', 'sysctl.kernel.panic_on_rcu_stall=1',
].join(' ');

/** Runs the lab host until it powers off. `false`: it was stopped for taking longer than `timeoutSeconds`. */
export async function runMachine(machine: Machine): Promise<boolean> {
  const outputSocket = join(machine.work, 'out.sock');
  const server = await listen(outputSocket, machine.onOutput);
  const log = openSync(join(machine.work, 'qemu.log'), 'a');
  try {
    const loader = join(machine.host.emulator, 'lib', 'ld-linux-x86-64.so.2');
    return await runQemu(loader, qemuArguments(machine, outputSocket), log, machine.timeoutSeconds);
  } finally {
    closeSync(log);
    server.close();
  }
}

/** Arguments of the dynamic loader, which starts the QEMU of another Debian release with that release's libraries. */
function qemuArguments(machine: Machine, outputSocket: string): string[] {
  const { emulator } = machine.host;
  const disk = (file: string): string[] => ['-drive', `file=${file},if=virtio,format=raw,snapshot=on,cache=unsafe`];
  return [
    '--library-path', join(emulator, 'lib'), join(emulator, 'qemu-system-x86_64'), '-L', join(emulator, 'share'),
    '-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', ['EPYC,+svm,+npt', machine.cpu].filter(Boolean).join(), '-smp', '2', '-m', String(machine.memory),
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

/** Starts QEMU and waits for its end; it does not outlive this process. */
function runQemu(loader: string, args: string[], log: number, timeoutSeconds: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const qemu = spawn(loader, args, { stdio: ['ignore', log, log] });
    let inTime = true;
    const stop = (): void => {
      qemu.kill('SIGKILL');
    };
    const interrupted = (): void => {
      stop();
      process.exit(130);
    };
    const timer = setTimeout(() => {
      inTime = false;
      stop();
    }, timeoutSeconds * 1000);
    process.once('exit', stop);
    process.once('SIGINT', interrupted);
    process.once('SIGTERM', interrupted);
    const forget = (): void => {
      clearTimeout(timer);
      process.off('exit', stop);
      process.off('SIGINT', interrupted);
      process.off('SIGTERM', interrupted);
    };
    qemu.once('error', (error) => {
      forget();
      reject(new OperatorError('LAB_FAILED', `the lab's QEMU does not start (${error.message})`,
        'remove the image from the cache; it is built anew'));
    });
    qemu.once('exit', () => {
      forget();
      resolve(inTime);
    });
  });
}
