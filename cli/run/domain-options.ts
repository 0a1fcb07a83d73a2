/** Options of `xenshim run` that say what Xen is to this guest. */
import type { DomainConfig, OnShutdown, ShutdownAction } from '../../shim/domain/config.js';
import { choice } from './choice.js';

export type DomainOptions = Pick<DomainConfig, 'eventChannels' | 'maxGrantVersion' | 'onShutdown'>;

const ACTIONS = ['destroy', 'restart', 'preserve'] as const satisfies readonly ShutdownAction[];

export const DOMAIN_USAGE = `  --event-channels 2l|fifo
                          event-channel ABIs offered: 2-level alone, which KVM carries out (default), or FIFO as well
  --grant-version 1|2     highest version of grant tables offered (default: 1)
  --on-poweroff, --on-reboot, --on-crash, --on-watchdog ACTION
                          what follows when the guest shuts down: ${ACTIONS.join(', ')}
                          (default: destroy, restart, and for crash and watchdog QEMU's -action panic=)
  --on-soft-reset ACTION  the same for kexec; default soft-reset: the next kernel runs in the same machine
`;

/** For parseArgs. */
export const domainOptions = {
  'event-channels': { type: 'string', default: '2l' },
  'grant-version': { type: 'string', default: '1' },
  'on-poweroff': { type: 'string' },
  'on-reboot': { type: 'string' },
  'on-crash': { type: 'string' },
  'on-watchdog': { type: 'string' },
  'on-soft-reset': { type: 'string' },
} as const;

type Values = Readonly<Partial<Record<keyof typeof domainOptions, string>>>;

/** @throws OperatorError */
export function parseDomain(values: Values): DomainOptions {
  const action = <T extends string>(option: keyof Values, choices: readonly T[]): T | undefined => {
    const value = values[option];
    return value === undefined ? undefined : choice(option, value, choices);
  };
  const onShutdown: OnShutdown = {
    poweroff: action('on-poweroff', ACTIONS) ?? 'destroy',
    reboot: action('on-reboot', ACTIONS) ?? 'restart',
    crash: action('on-crash', ACTIONS) ?? 'panic',
    watchdog: action('on-watchdog', ACTIONS) ?? 'panic',
    softReset: action('on-soft-reset', [...ACTIONS, 'soft-reset']) ?? 'soft-reset',
  };
  return {
    eventChannels: choice('event-channels', values['event-channels'] ?? '2l', ['2l', 'fifo']),
    maxGrantVersion: choice('grant-version', values['grant-version'] ?? '1', ['1', '2']) === '2' ? 2 : 1,
    onShutdown,
  };
}
