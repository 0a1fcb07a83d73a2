/** The table of requests: one row per message type a client may send. A type without a row is ENOSYS. */
import { XsType, type WireError } from '../abi/io/xs_wire.js';
import type { Answer, Connection } from './connection.js';
import type { Context } from './operations.js';
import type { Transaction } from './transaction.js';
import { control } from './requests/control.js';
import {
  getDomainPath,
  introduce,
  isDomainIntroduced,
  release,
  resume,
  setTarget,
} from './requests/domains.js';
import { directory, directoryPart, getPerms, makeDirectory, read, remove, setPerms, write } from './requests/nodes.js';
import { getQuota, setQuota } from './requests/quotas.js';
import { end, start } from './requests/transactions.js';
import { resetWatches, unwatch, watch } from './requests/watches.js';

/** A request being answered. */
export interface Request {
  readonly connection: Connection;
  readonly payload: Buffer;
  readonly txId: number;
  readonly transaction: Transaction | undefined;
  readonly context: Context;
}

export interface Row {
  readonly name: string;
  run(request: Request): Answer | WireError;
  /** For dom0 and host tools only; EACCES otherwise. */
  readonly privileged?: boolean;
  /** The transaction id is not looked at. */
  readonly outsideTransactions?: boolean;
  /** Changes nodes at once unless in a transaction: subject to the write rate. */
  readonly writes?: boolean;
}

/**
 * Not here on purpose: 20 was RESTRICT, removed from Xen; GET_FEATURE and SET_FEATURE (23, 24) choose what a guest is
 * offered before it starts, and every guest is offered the same here.
 */
export const requests: ReadonlyMap<number, Row> = new Map<number, Row>([
  [XsType.CONTROL, { name: 'CONTROL', run: control, privileged: true }],
  [XsType.DIRECTORY, { name: 'DIRECTORY', run: directory }],
  [XsType.READ, { name: 'READ', run: read }],
  [XsType.GET_PERMS, { name: 'GET_PERMS', run: getPerms }],
  [XsType.WATCH, { name: 'WATCH', run: watch, outsideTransactions: true }],
  [XsType.UNWATCH, { name: 'UNWATCH', run: unwatch, outsideTransactions: true }],
  [XsType.TRANSACTION_START, { name: 'TRANSACTION_START', run: start }],
  [XsType.TRANSACTION_END, { name: 'TRANSACTION_END', run: end }],
  [XsType.INTRODUCE, { name: 'INTRODUCE', run: introduce, privileged: true }],
  [XsType.RELEASE, { name: 'RELEASE', run: release, privileged: true }],
  [XsType.GET_DOMAIN_PATH, { name: 'GET_DOMAIN_PATH', run: getDomainPath }],
  [XsType.WRITE, { name: 'WRITE', run: write, writes: true }],
  [XsType.MKDIR, { name: 'MKDIR', run: makeDirectory, writes: true }],
  [XsType.RM, { name: 'RM', run: remove, writes: true }],
  [XsType.SET_PERMS, { name: 'SET_PERMS', run: setPerms, writes: true }],
  [XsType.IS_DOMAIN_INTRODUCED, { name: 'IS_DOMAIN_INTRODUCED', run: isDomainIntroduced, privileged: true }],
  [XsType.RESUME, { name: 'RESUME', run: resume, privileged: true }],
  [XsType.SET_TARGET, { name: 'SET_TARGET', run: setTarget, privileged: true }],
  [XsType.RESET_WATCHES, { name: 'RESET_WATCHES', run: resetWatches }],
  [XsType.DIRECTORY_PART, { name: 'DIRECTORY_PART', run: directoryPart }],
  [XsType.GET_QUOTA, { name: 'GET_QUOTA', run: getQuota, privileged: true }],
  [XsType.SET_QUOTA, { name: 'SET_QUOTA', run: setQuota, privileged: true }],
]);
