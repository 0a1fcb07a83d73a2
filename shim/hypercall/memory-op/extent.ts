/** Questions about how much memory there is: the results are numbers of pages or frames. */
import { MemoryDomain, MemoryOp } from '../../abi/memory.js';
import type { Domain } from '../../domain/domain.js';
import { bare, operation } from '../row.js';

const ofDomain = (command: number, name: string, answer: (domain: Domain) => number) =>
  operation(command, name, { layout: MemoryDomain, direction: 'in' }, (call, view, at) => {
    const refused = call.self(view.getUint16(at.domid, true));
    return refused < 0 ? refused : answer(call.domain);
  });

/** Asks for the last frame of the machine; all a guest can know of is its own memory. */
export const maximumRamPage = bare(
  MemoryOp.maximum_ram_page,
  'maximum_ram_page',
  (call) => call.domain.p2m.maxGfn,
);

export const currentReservation = ofDomain(
  MemoryOp.current_reservation,
  'current_reservation',
  (domain) => domain.p2m.currentPages,
);

export const maximumReservation = ofDomain(
  MemoryOp.maximum_reservation,
  'maximum_reservation',
  (domain) => domain.p2m.totalPages,
);

export const maximumGpfn = ofDomain(MemoryOp.maximum_gpfn, 'maximum_gpfn', (domain) => domain.p2m.maxGfn);
