/** The link `bridge=NAME`: a tap of our own in a bridge of the operator's, as xl's vif-bridge script makes it. */
import { OperatorError } from '../../shim/observe/errors.js';
import type { Link } from './link.js';
import { openTap } from './tap.js';
import * as tun from './tun.js';

/** The address of every port: one that is higher than any other, so that the bridge does not take it for its own. */
const PORT_ADDRESS = Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0xff, 0xff);

const Linux = Object.freeze({ EPERM: 1 });

/** Where the interface's name comes from: `vifname=`, or xl's vifDOMID.INDEX. */
export interface PortName {
  readonly vifname?: string | undefined;
  readonly domid: number;
  readonly index: number;
}

/** xl's name, with the next number in place of the domain's while another guest of this host has it. */
function freeName({ vifname, domid, index }: PortName): string {
  if (vifname !== undefined) return vifname;
  for (let number = domid; ; number++) {
    const name = `vif${number}.${index}`;
    if (!tun.interfaceExists(name)) return name;
  }
}

/** @throws OperatorError BRIDGE_MISSING, BRIDGE_KIND, BRIDGE_PERMISSION, VIFNAME_USED, or as openTap */
export function openBridgeLink(bridge: string, name: PortName, queues: number): Link {
  const mtu = tun.getMtu(bridge);
  if (mtu < 0) {
    throw new OperatorError('BRIDGE_MISSING', `bridge=${bridge}: there is no such interface`,
      `make it: ip link add ${bridge} type bridge && ip link set ${bridge} up`);
  }
  const port = freeName(name);
  if (tun.interfaceExists(port)) {
    throw new OperatorError('VIFNAME_USED', `vifname=${port}: there is an interface of this name`, 'choose another name');
  }
  const tap = openTap(port, queues);
  try {
    // Before it joins: a port with a smaller MTU would pull the bridge's down.
    check(bridge, tun.setMtu(port, mtu));
    check(bridge, tun.setAddress(port, PORT_ADDRESS));
    check(bridge, tun.disableArp(port));
    check(bridge, tun.addToBridge(bridge, port));
  } catch (error) {
    tap.close();
    throw error;
  }
  return {
    ...tap,
    description: `bridge=${bridge}`,
    interfaceName: port,
    setMtu(bytes: number | undefined) {
      tap.setMtu!(bytes ?? mtu);
    },
  };
}

function check(bridge: string, error: number): void {
  if (error >= 0) return;
  if (error === -Linux.EPERM) {
    throw new OperatorError('BRIDGE_PERMISSION', `bridge=${bridge}: adding a port needs CAP_NET_ADMIN`,
      'run as root, or use a tap that is in the bridge already', 3);
  }
  throw new OperatorError('BRIDGE_KIND', `bridge=${bridge}: the interface takes no ports (errno ${-error})`,
    'name a bridge, as `ip link show type bridge` lists them');
}
