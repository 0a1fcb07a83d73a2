/** Eventfds by narrow names: what a backend may do with a kick, a call or its own control bell. */
import { native } from '../../kvm/native.js';

/** Non-blocking, close-on-exec, counter 0. */
export const createEventfd = (): number => native.eventfd();

/** Adds one to the counter: wakes whoever waits, or raises the guest's event. */
export const signalEventfd = (fd: number): void => {
  native.eventfdSignal(fd);
};

/** Reads and clears the counter. */
export const drainEventfd = (fd: number): number => native.eventfdDrain(fd);

export const closeFd = (fd: number): void => {
  native.closeFd(fd);
};
