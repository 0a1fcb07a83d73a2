/**
 * From an exit to an answer. The only place that looks a call up, copies argument structures, counts, traces, and turns
 * what nobody handles into Xen's errors. An exception here is a bug of ours: one line in the log, -EIO for the caller.
 */
import type { HypercallExit } from '../../kvm/bridge.js';
import { Errno } from '../abi/errno.js';
import type { Domain } from '../domain/domain.js';
import { Call } from './call.js';
import { GuestSpace } from './guest-space.js';
import { WAIT, type Answer, type Argument, type Hypercall, type Operation } from './row.js';
import { hypercalls } from './table.js';

/** How long a long operation runs before others get their turn, ms. */
const SLICE_MS = 2;

interface Entry {
  readonly row: Hypercall;
  readonly operations: ReadonlyMap<number, Operation> | undefined;
}

type Result = number | typeof WAIT;

export class Dispatcher {
  readonly #domain: Domain;
  readonly #entries = new Map<number, Entry>();
  /** name → calls so far; `name.operation` where there are some. */
  readonly counts = new Map<string, number>();
  /** Logs every call when true. Costs a line per hypercall. */
  trace = false;
  /** Long operations under way, by vCPU. */
  readonly #running = new Map<number, NodeJS.Immediate>();

  constructor(domain: Domain, rows: readonly Hypercall[] = hypercalls) {
    this.#domain = domain;
    for (const row of rows) {
      const operations = row.operations && new Map(row.operations.map((op) => [op.command, op]));
      this.#entries.set(row.number, { row, operations });
    }
  }

  /** What BridgeEvents.hypercall wants: the result, or undefined when the vCPU waits for it. */
  dispatch(exit: HypercallExit): number | undefined {
    const { vcpu } = exit;
    try {
      if (this.#domain.vcpus.seen(vcpu)) this.#domain.sharedInfo.adopt(vcpu);
      if (exit.cpl > 0) return -Errno.EPERM;
      const space = new GuestSpace(this.#domain.memory, this.#domain.p2m, exit, exit.longMode);
      const call: Call = new Call(this.#domain, vcpu, exit.longMode, exit.args, space, (nr, args) =>
        this.#nested(call, nr, args),
      );
      const answer = this.#answer(call, exit.nr);
      if (typeof answer === 'object') return this.#run(vcpu, answer, exit.nr);
      return answer === WAIT ? undefined : answer;
    } catch (error) {
      return this.#bug(exit.nr, vcpu, error);
    }
  }

  /** Forgets long operations under way: the machine was reset, nobody waits for them. */
  reset(): void {
    for (const immediate of this.#running.values()) clearImmediate(immediate);
    this.#running.clear();
  }

  /** One entry of a multicall: as a call of its own, in the slices of the whole. */
  *#nested(outer: Call, number: number, args: BigUint64Array): Generator<void, Result, void> {
    const call = new Call(outer.domain, outer.vcpu, outer.long, args, outer.space);
    const answer = this.#answer(call, number);
    return typeof answer === 'object' ? yield* answer : answer;
  }

  /** Bit 31 of the number would mean a Viridian hypercall; no guest is offered that interface, so no row has it. */
  #answer(call: Call, number: number): Answer {
    const entry = this.#entries.get(number);
    if (entry === undefined) {
      this.#count('unknown');
      return -Errno.ENOSYS;
    }
    const { row, operations } = entry;
    if (operations === undefined) {
      this.#count(row.name);
      return this.#traced(call, row.name, row.refused ? -row.refused.errno : row.handle!(call));
    }
    const refused = row.check?.(call) ?? 0;
    if (refused < 0) return refused;
    const command = (call.u32(0) & (row.commandMask ?? ~0)) >>> 0;
    const operation = operations.get(command);
    const name = `${row.name}.${operation?.name ?? command}`;
    this.#count(operation === undefined ? `${row.name}.unknown` : name);
    if (operation === undefined) return this.#traced(call, name, -Errno.ENOSYS);
    if (operation.refused) return this.#traced(call, name, -operation.refused.errno);
    return this.#traced(call, name, this.#operate(call, operation, call.pointer(row.pointer ?? 1)));
  }

  #operate(call: Call, operation: Operation, va: bigint): Answer {
    const { argument } = operation;
    if (argument === undefined) return operation.handle!(call, EMPTY, NO_FIELDS);
    const fields = call.long ? argument.x64 : argument.x32;
    const bytes = new Uint8Array(fields.SIZE);
    if (argument.direction !== 'out' && !call.space.read(va, bytes)) return argument.fault?.(call) ?? -Errno.EFAULT;
    const view = new DataView(bytes.buffer);
    const answer = operation.handle!(call, view, fields);
    if (typeof answer === 'object') return this.#copyOutAfter(answer, call, argument, va, bytes);
    return this.#copyOut(answer, call, argument, va, bytes);
  }

  *#copyOutAfter(
    answer: Generator<void, Result, void>,
    call: Call,
    argument: Argument,
    va: bigint,
    bytes: Uint8Array,
  ): Generator<void, Result, void> {
    return this.#copyOut(yield* answer, call, argument, va, bytes);
  }

  #copyOut(result: Result, call: Call, argument: Argument, va: bigint, bytes: Uint8Array): Result {
    if (argument.direction === 'in' || result === WAIT || result < 0) return result;
    return call.space.write(va, bytes) ? result : -Errno.EFAULT;
  }

  /** Runs a long operation until it is done or its slice is over; then it goes on in another turn of the event loop. */
  #run(vcpu: number, work: Generator<void, Result, void>, number: number): number | undefined {
    const until = performance.now() + SLICE_MS;
    do {
      const step = work.next();
      if (step.done) return step.value === WAIT ? undefined : step.value;
    } while (performance.now() < until);
    this.#running.set(
      vcpu,
      setImmediate(() => {
        this.#running.delete(vcpu);
        let result: number | undefined;
        try {
          result = this.#run(vcpu, work, number);
        } catch (error) {
          result = this.#bug(number, vcpu, error);
        }
        if (result !== undefined) this.#domain.bridge.complete(vcpu, result);
      }),
    );
    return undefined;
  }

  #bug(number: number, vcpu: number, error: unknown): number {
    const { stack, message } = error instanceof Error ? error : { stack: undefined, message: String(error) };
    this.#domain.log.error({ hypercall: number, vcpu, stack: stack ?? message }, 'a hypercall failed by a bug of ours');
    return -Errno.EIO;
  }

  #count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  #traced(call: Call, name: string, answer: Answer): Answer {
    if (this.trace) {
      const result = typeof answer === 'number' ? answer : 'later';
      this.#domain.log.trace({ vcpu: call.vcpu, args: [...call.args].map(hex), result }, name);
    }
    return answer;
  }
}

const hex = (value: bigint): string => value.toString(16);
const EMPTY = new DataView(new ArrayBuffer(0));
const NO_FIELDS = Object.freeze({ SIZE: 0 });
