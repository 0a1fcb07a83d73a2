/** Which vCPUs a guest is to use: cpu/N/availability in its home, which its driver watches. */
import type { StoreClient } from './client.js';
import { homeOf } from './path.js';

/**
 * The first `online` of a guest's `vcpus` are to be online. Nodes that say so already are not written, as a write would
 * wake the guest's watch.
 */
export function setVcpuAvailability(client: StoreClient, domid: number, vcpus: number, online: number): void {
  client.transaction((tx) => {
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      const path = `${homeOf(domid)}/cpu/${vcpu}/availability`;
      const value = vcpu < online ? 'online' : 'offline';
      if (tx.read(path) !== value) tx.write(path, value);
    }
  });
}
