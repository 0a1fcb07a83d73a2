/** HVM_PARAM_*: which a guest may read and write, and their values. */
import { Errno } from '../abi/errno.js';
import { HVM_NR_PARAMS, HvmParam } from '../abi/hvm-params.js';

/** Parameters of toolstacks long gone; the numbers are not given out again. */
const DEPRECATED: ReadonlySet<number> = new Set([4, 13, 20, 21, 22, 23, 24, 25, 26, 30]);

const GUEST_WRITES: ReadonlySet<number> = new Set([
  HvmParam.CALLBACK_IRQ,
  HvmParam.VM86_TSS,
  HvmParam.VM86_TSS_SIZED,
  HvmParam.ACPI_IOPORTS_LOCATION,
  HvmParam.VM_GENERATION_ID_ADDR,
  HvmParam.STORE_EVTCHN,
  HvmParam.CONSOLE_EVTCHN,
  HvmParam.X87_FIP_WIDTH,
]);

const GUEST_READS: ReadonlySet<number> = new Set([
  ...GUEST_WRITES,
  HvmParam.STORE_PFN,
  HvmParam.CONSOLE_PFN,
  HvmParam.ALTP2M,
]);

export class HvmParams {
  readonly #values = new BigUint64Array(HVM_NR_PARAMS);

  /** May a guest set this parameter? 0 or a negative errno. */
  maySet(index: number): number {
    if (index >= HVM_NR_PARAMS || DEPRECATED.has(index)) return -Errno.EINVAL;
    if (index === HvmParam.ALTP2M) return -Errno.EEXIST;
    return GUEST_WRITES.has(index) ? 0 : -Errno.EPERM;
  }

  /** May a guest read this parameter? 0 or a negative errno. */
  mayGet(index: number): number {
    if (index >= HVM_NR_PARAMS || DEPRECATED.has(index)) return -Errno.EINVAL;
    return GUEST_READS.has(index) ? 0 : -Errno.EPERM;
  }

  get(index: number): bigint {
    return this.#values[index]!;
  }

  set(index: number, value: bigint | number): void {
    this.#values[index] = BigInt(value);
  }

  reset(): void {
    this.#values.fill(0n);
  }
}
