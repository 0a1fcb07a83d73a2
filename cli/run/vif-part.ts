/** Network interfaces on their way from an option to a guest: link and capture opened. */
import { openCapture, type Capture } from '../../backends/net/capture.js';
import type { Link } from '../../backends/net/link.js';
import { openLinkOf } from '../../backends/net/links.js';
import type { Log } from '../../shim/observe/log.js';
import type { VifOption } from './vif-option.js';

export interface VifPart {
  readonly option: VifOption;
  readonly index: number;
  readonly link: Link;
  readonly capture?: Capture;
}

/** @throws OperatorError as the link and the capture do */
export function openVif(option: VifOption, index: number, domid: number, log: Log): VifPart {
  const { link: spec, queues = 1, pcap, snapLength } = option;
  const link = openLinkOf(spec, { domid, index, queues, log });
  if (pcap === undefined) return { option, index, link };
  try {
    const capture = openCapture({
      file: pcap, name: link.interfaceName ?? link.description, queues, log,
      ...(snapLength === undefined ? {} : { snapLength }),
    });
    return { option, index, link, capture };
  } catch (error) {
    link.close();
    throw error;
  }
}
