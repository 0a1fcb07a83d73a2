import test from 'ava';
import { parseVif } from '../../../cli/run/vif-option.js';
import { refused } from '../refused.js';

const usage = (t: Parameters<typeof refused>[0], text: string, about: RegExp): void => {
  t.regex(refused(t, 'USAGE', () => parseVif(text)), about, text);
};

test('a vif has a link and perhaps options, in any order', (t) => {
  t.deepEqual(parseVif('tap=vnet0'), { link: { kind: 'tap', name: 'vnet0' } });
  t.deepEqual(parseVif('mac=00:16:3E:AA:bb:0c,tap=t'), { link: { kind: 'tap', name: 't' }, mac: '00:16:3e:aa:bb:0c' });
  t.deepEqual(parseVif('user'), { link: { kind: 'user' } });
  t.deepEqual(parseVif('bridge=br0.100-x,vifname=web0,mtu=9000,queues=4'), {
    link: { kind: 'bridge', name: 'br0.100-x', vifname: 'web0' }, mtu: 9000, queues: 4,
  });
  t.deepEqual(parseVif('socket=/run/a,,b,server,rate=8Mb/s,pcap=x.pcapng,snaplen=96'), {
    link: { kind: 'socket', path: '/run/a,b', server: true }, rate: '50000,50000', pcap: 'x.pcapng', snapLength: 96,
  });
});

test('a vif without a link, with two, or with unknown options is refused, in the words that were written', (t) => {
  usage(t, 'mac=00:16:3e:00:00:01', /there is no link/);
  usage(t, 'tap0', /'tap0' is no vif option/);
  usage(t, '', /no vif option/);
  usage(t, 'tap=a,bridge=br0', /'bridge=br0' is a second link/);
  usage(t, 'tap=a,script=vif-bridge', /'script=vif-bridge' is no vif option/);
  usage(t, 'user=me', /'user=me'/);
  usage(t, 'socket', /'socket'/);
});

test('options of one kind of link are refused with another', (t) => {
  usage(t, 'tap=a,vifname=b', /for a bridge/);
  usage(t, 'user,server', /for a socket/);
});

test('an interface has a name the kernel takes as it stands', (t) => {
  for (const name of ['', '.', '..', 'a b', 'a/b', 'a:1', 'tap%d', 'x'.repeat(16)]) {
    usage(t, `tap=${name}`, /no name for an interface/);
    usage(t, `bridge=${name}`, /no name for an interface/);
    usage(t, `bridge=br0,vifname=${name}`, /no name for an interface/);
  }
  t.deepEqual(parseVif(`tap=${'x'.repeat(15)}`).link, { kind: 'tap', name: 'x'.repeat(15) });
});

test("an address is a unicast MAC address, not a group's, not zero, not a part of one", (t) => {
  const wrong = [
    '', '00:16:3e:00:00', '00:16:3e:00:00:01:02', '00-16-3e-00-00-01', '0:16:3e:0:0:1', '00:16:3e:00:00:0g',
    '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01', '00:00:00:00:00:00', 'random',
  ];
  for (const mac of wrong) usage(t, `tap=a,mac=${mac}`, /not the address/);
});

test('numbers that are out of range or none are refused', (t) => {
  for (const mtu of ['', '67', '65518', '1500x', '-1']) usage(t, `tap=a,mtu=${mtu}`, /MTU/);
  for (const queues of ['', '0', '9', '1.5', 'all']) usage(t, `tap=a,queues=${queues}`, /queues/);
  for (const snaplen of ['0', '13', '262145']) usage(t, `tap=a,snaplen=${snaplen}`, /snaplen/);
  for (const rate of ['', 'fast', '0Mb/s', '10Mb']) usage(t, `tap=a,rate=${rate}`, /no rate/);
  usage(t, 'tap=a,pcap=', /names no file/);
});
