/** The subcommands. Each is loaded only when it is used. */

export interface Command {
  /** One line for the overview. */
  readonly summary: string;
  /** Runs with the arguments after its name; resolves to the exit status. */
  run(argv: readonly string[]): Promise<number>;
}

export const commands: Readonly<Record<string, Command>> = Object.freeze({
  run: {
    summary: 'start a Xen guest: xenshim run [options] -- qemu-system-x86_64 …',
    run: async (argv) => (await import('./run/run.js')).run(argv),
  },
  check: {
    summary: 'say what this host offers, and what to do about what is missing',
    run: async (argv) => (await import('./check/check.js')).check(argv),
  },
  list: {
    summary: 'list the running guests',
    run: async (argv) => (await import('./control/commands.js')).list(argv),
  },
  shutdown: {
    summary: 'ask a guest to power off',
    run: async (argv) => (await import('./control/commands.js')).shutdown(argv),
  },
  reboot: {
    summary: 'ask a guest to reboot',
    run: async (argv) => (await import('./control/commands.js')).reboot(argv),
  },
  block: {
    summary: "list, attach, detach and resize a guest's disks while it runs",
    run: async (argv) => (await import('./control/block.js')).block(argv),
  },
  'vcpu-set': {
    summary: 'tell a guest how many of its vCPUs to use',
    run: async (argv) => (await import('./control/vcpu-set.js')).vcpuSet(argv),
  },
  'mem-set': {
    summary: 'tell a guest how much of its memory to use',
    run: async (argv) => (await import('./control/memory.js')).memSet(argv),
  },
  page: {
    summary: 'look at and steer a guest whose memory is paged',
    run: async (argv) => (await import('./control/page.js')).page(argv),
  },
  net: {
    summary: "list, attach, detach and change a guest's network interfaces while it runs",
    run: async (argv) => (await import('./control/net.js')).net(argv),
  },
  console: {
    summary: "attach to a guest's PV console",
    run: async (argv) => (await import('./console/attach.js')).attach(argv),
  },
  xenstore: {
    summary: "read and write a guest's xenstore",
    run: async (argv) => (await import('./control/xenstore.js')).xenstore(argv),
  },
});
