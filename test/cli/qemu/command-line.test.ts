import test from 'ava';

import { additions, guestSize, mentions } from '../../../cli/qemu/command-line.js';
import { refused } from '../refused.js';

const GiB = 2 ** 30;
const KVM = ['-accel', 'kvm'];

/** What is added for RAM of this many bytes. */
const ram = (bytes: number): string[] => [
  '-object', `memory-backend-memfd,id=xenshim-ram,share=on,size=${bytes}`, '-machine', 'memory-backend=xenshim-ram',
];

/** A command line as a shell would split it. */
const split = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');

test('KVM and shared memory of the right size are added to a command that says nothing of them', (t) => {
  t.deepEqual(additions([]), [...KVM, ...ram(GiB / 8)]);
  t.deepEqual(additions(split('-M q35 -m 2G -smp 2 -drive file=a.img,if=ide')), [...KVM, ...ram(2 * GiB)]);
  t.deepEqual(additions(split('-machine pc -m 512')), [...KVM, ...ram(GiB / 2)]);
});

test('an accelerator that is asked for is not added again', (t) => {
  for (const text of [
    '-enable-kvm', '--enable-kvm', '-accel kvm', '-accel kvm,kernel-irqchip=on', '-accel accel=kvm', '-machine pc,accel=kvm',
    '-M accel=kvm:tcg', '-accel kvm -accel tcg',
  ]) {
    t.deepEqual(additions(split(`${text} -m 1G`)), ram(GiB), text);
  }
});

test('memory is understood in every way -m has', (t) => {
  const sizes: [string, number][] = [
    ['-m 1024', GiB], ['--m 1G', GiB], ['-m size=1G', GiB], ['-m size=1048576k', GiB], ['-m 1G,slots=4,maxmem=8G', GiB],
    ['-m slots=4,maxmem=8G,size=6G', 6 * GiB], ['-m 1G -m 2G', 2 * GiB], ['-m 2G -m slots=2,maxmem=4G', 2 * GiB],
    ['-m slots=2,maxmem=4G', GiB / 8], ['-m 0.5G', GiB / 2],
  ];
  for (const [text, bytes] of sizes) t.deepEqual(additions([...KVM, ...split(text)]), ram(bytes), text);
});

test('a size that is no multiple of 8 KiB is rounded up as QEMU rounds the machine', (t) => {
  t.deepEqual(additions([...KVM, '-m', '131073k']), ram(131080 * 1024));
  t.deepEqual(additions([...KVM, '-m', '134217729b']), ram(134217728 + 8192));
});

test('a size that cannot be understood is refused rather than guessed', (t) => {
  for (const size of ['1GB', 'lots', '', '0', '-1', '0x400']) {
    refused(t, 'MEMORY_SIZE', () => additions(['-m', size]));
  }
  refused(t, 'MEMORY_SIZE', () => additions(['-m']));
});

test('options inside the value of another option are not options', (t) => {
  t.deepEqual(additions(['-append', 'quiet -m 5 -accel tcg', '-name', 'x']), [...KVM, ...ram(GiB / 8)]);
});

test("an accelerator other than KVM and QEMU's own Xen mode are refused", (t) => {
  for (const text of ['-accel tcg', '-accel tcg,thread=multi', '-machine pc,accel=tcg', '-accel xen', '-accel tcg -accel kvm']) {
    refused(t, 'ACCELERATOR', () => additions(split(text)));
  }
  refused(t, 'XEN_VERSION', () => additions(split('-accel kvm,xen-version=0x4000a,kernel-irqchip=split')));
  refused(t, 'XEN_VERSION', () => additions(split('-enable-kvm -accel kvm,xen-version=0x40011')));
});

test('shared memory that is there already is used as it is', (t) => {
  for (const text of [
    '-object memory-backend-memfd,id=mem,share=on,size=1G -machine memory-backend=mem',
    '-object memory-backend-memfd,id=mem,size=1G -machine q35,memory-backend=mem',
    '-machine q35,memory-backend=mem -object memory-backend-shm,id=mem,size=1G',
    '-object memory-backend-file,id=mem,mem-path=/dev/shm/x,share=yes,size=1G -M q35 -M memory-backend=mem',
    '-object memory-backend-file,id=mem,mem-path=/dev/hugepages,share=true,size=1G,prealloc=on -machine memory-backend=mem',
    '-object memory-backend-memfd,id=a,size=1G -numa node,memdev=a -object memory-backend-memfd,id=b,size=1G -numa node,memdev=b',
  ]) {
    t.deepEqual(additions([...KVM, '-m', '1G', ...split(text)]), [], text);
  }
});

test('an object that is not the RAM of the machine does not stand in for it', (t) => {
  const text = '-m 1G -object memory-backend-memfd,id=shm0,size=1M,share=on -device ivshmem-plain,memdev=shm0';
  t.deepEqual(additions([...KVM, ...split(text)]), ram(GiB));
});

test('memory that cannot be shared is refused', (t) => {
  for (const text of [
    '-object memory-backend-ram,id=mem,size=1G -machine memory-backend=mem',
    '-object memory-backend-ram,id=mem,size=1G,share=on -machine memory-backend=mem',
    '-object memory-backend-file,id=mem,mem-path=/x,size=1G -machine memory-backend=mem',
    '-object memory-backend-file,id=mem,mem-path=/x,size=1G,share=off -machine memory-backend=mem',
    '-object memory-backend-memfd,id=mem,size=1G,share=no -machine memory-backend=mem',
    '-object memory-backend-memfd,id=a,size=1G -numa node,memdev=a -object memory-backend-ram,id=b,size=1G -numa node,memdev=b',
  ]) {
    t.regex(refused(t, 'MEMORY_NOT_SHARED', () => additions([...KVM, ...split(text)])), /'(mem|b)'/, text);
  }
});

test('DIMMs must be shareable too, and RAM is still added for the machine', (t) => {
  const dimm = '-m 1G,slots=1,maxmem=2G -device pc-dimm,id=d,memdev=m -object';
  refused(t, 'MEMORY_NOT_SHARED', () => additions(split(`${dimm} memory-backend-ram,id=m,size=1G`)));
  t.deepEqual(additions([...KVM, ...split(`${dimm} memory-backend-memfd,id=m,size=1G`)]), ram(GiB));
  refused(t, 'MEMORY_NOT_SHARED', () => additions([
    '-object', '{"qom-type":"memory-backend-ram","id":"vm0","size":1073741824}',
    '-device', '{"driver":"virtio-mem-pci","id":"x","memdev":"vm0","requested-size":0}',
  ]));
});

test('a memory backend without its object, and -mem-path, are refused', (t) => {
  t.regex(refused(t, 'MEMORY_BACKEND', () => additions(split('-machine pc,memory-backend=pc.ram'))), /'pc.ram'/);
  refused(t, 'MEMORY_BACKEND', () => additions(split('-numa node,memdev=a')));
  refused(t, 'MEM_PATH', () => additions(split('-mem-path /dev/hugepages -m 1G')));
});

/** What libvirt 10 starts for a q35 guest with <memoryBacking><source type='memfd'/><access mode='shared'/>. */
const LIBVIRT = [
  '-name', 'guest=xen-guest,debug-threads=on',
  '-S',
  '-object', '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-1/master-key.aes"}',
  '-machine', 'pc-q35-10.0,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram,acpi=on',
  '-accel', 'kvm',
  '-cpu', 'host,migratable=on',
  '-m', 'size=4194304k',
  '-object', '{"qom-type":"memory-backend-memfd","id":"pc.ram","share":true,'
    + '"x-use-canonical-path-for-ramblock-id":false,"size":4294967296}',
  '-overcommit', 'mem-lock=off',
  '-smp', '4,sockets=1,dies=1,clusters=1,cores=2,threads=2',
  '-uuid', '2f9d3a5e-0d0f-4f4b-8a2a-6f1f9d8f1c11',
  '-no-user-config', '-nodefaults',
  '-chardev', 'socket,id=charmonitor,fd=32,server=on,wait=off',
  '-mon', 'chardev=charmonitor,id=monitor,mode=control',
  '-device', '{"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x2"}',
  '-blockdev', '{"driver":"file","filename":"/var/lib/libvirt/images/guest.img","node-name":"libvirt-1-storage"}',
  '-device', '{"driver":"ide-hd","bus":"ide.0","drive":"libvirt-1-storage","id":"sata0-0-0","bootindex":1}',
  '-audiodev', '{"id":"audio1","driver":"none"}',
  '-msg', 'timestamp=on',
];

test("libvirt's command with shared memfd memory needs nothing added", (t) => {
  t.deepEqual(additions(LIBVIRT), []);
  t.deepEqual(guestSize(LIBVIRT), { memory: 4 * GiB, vcpus: 4 });
  t.true(mentions(LIBVIRT, '/var/lib/libvirt/images/guest.img'));
});

test("libvirt's command with private memory is refused, as is one whose JSON says share is false", (t) => {
  const command = (object: string): string[] =>
    LIBVIRT.map((argument) => (argument.includes('memory-backend-memfd') ? object : argument));
  refused(t, 'MEMORY_NOT_SHARED',
    () => additions(command('{"qom-type":"memory-backend-ram","id":"pc.ram","size":4294967296}')));
  refused(t, 'MEMORY_NOT_SHARED',
    () => additions(command('{"qom-type":"memory-backend-memfd","id":"pc.ram","share":false,"size":4294967296}')));
});

test("libvirt's command with NUMA nodes in JSON needs nothing added", (t) => {
  const node = (id: number): string[] => [
    '-object', `{"qom-type":"memory-backend-memfd","id":"ram-node${id}","share":true,"size":2147483648}`,
    '-numa', `node,nodeid=${id},cpus=${2 * id}-${2 * id + 1},memdev=ram-node${id}`,
  ];
  const machine = split('-machine pc-i440fx-9.2,usb=off -accel kvm -m size=4194304k');
  t.deepEqual(additions([...machine, ...node(0), ...node(1)]), []);
});

test('a machine written as JSON is understood', (t) => {
  const machine = '{"type":"q35","memory-backend":"mem","accel":"kvm"}';
  t.deepEqual(additions(['-machine', machine, '-object', 'memory-backend-memfd,id=mem,size=1G']), []);
  refused(t, 'ACCELERATOR', () => additions(['-machine', '{"type":"pc","accel":"tcg"}']));
});

test('commands of Proxmox and of people get their memory', (t) => {
  const proxmox = split(
    `-id 100 -name web,debug-threads=on -no-shutdown -chardev socket,id=qmp,path=/var/run/100.qmp,server=on,wait=off
     -mon chardev=qmp,mode=control -daemonize -smp 4,sockets=2,cores=2,maxcpus=4 -nodefaults -cpu kvm64,enforce,+kvm_pv_eoi
     -m 2048 -device pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e
     -drive file=/dev/pve/vm-100-disk-0,if=none,id=drive-ide0,format=raw,cache=none,aio=io_uring,detect-zeroes=on
     -device ide-hd,bus=ide.0,unit=0,drive=drive-ide0,id=ide0,bootindex=100 -machine type=pc-i440fx-8.1+pve0`,
  );
  t.deepEqual(additions(proxmox), [...KVM, ...ram(2 * GiB)]);
  t.deepEqual(guestSize(proxmox), { memory: 2 * GiB, vcpus: 4 });
  t.true(mentions(proxmox, '/dev/pve/vm-100-disk-0'));

  const kernel = split('-nographic -kernel vmlinuz -initrd initrd.img -append root=/dev/xvda1 -m 6144 -smp cpus=8,maxcpus=16');
  t.deepEqual(additions(kernel), [...KVM, ...ram(6 * GiB)]);
  t.deepEqual(guestSize(kernel), { memory: 6 * GiB, vcpus: 8 });
});

test('the vCPUs a guest starts with are counted as QEMU counts them', (t) => {
  const counts: [string, number][] = [
    ['', 1], ['-smp 4', 4], ['-smp cpus=3', 3], ['-smp 2,maxcpus=8', 2], ['-smp maxcpus=8', 8], ['-smp maxcpus=8,sockets=2', 8],
    ['-smp sockets=2,cores=2,threads=2', 8], ['-smp sockets=2,dies=2,modules=2,cores=3', 24],
    ['-smp 4,sockets=1,cores=4,threads=1', 4], ['-smp cores=2 -smp threads=2', 4], ['-smp 0', 1], ['--smp 2', 2],
  ];
  for (const [text, vcpus] of counts) t.is(guestSize(split(text)).vcpus, vcpus, text);
});

test('a file is found wherever a command opens it, and nowhere else', (t) => {
  const file = '/images/a.img';
  for (const argv of [
    ['-hda', file], [file], ['-drive', `file=${file},format=raw`], ['-drive', `if=ide,file=${file}`],
    ['-blockdev', `driver=file,node-name=f,filename=${file}`],
    ['-blockdev', `driver=raw,node-name=d,file.driver=file,file.filename=${file}`],
    ['-blockdev', `{"driver":"file","filename":"${file}","node-name":"f"}`],
    ['-blockdev', `{"driver":"raw","node-name":"d","file":{"driver":"file","filename":"${file}"}}`],
  ]) {
    t.true(mentions(argv, file), argv.join(' '));
  }
  for (const argv of [
    [], ['-hda', `${file}.bak`], ['-drive', `file=/other,id=${file}`], ['-append', `{${file}`], ['-device', `x,profile=${file}`],
  ]) {
    t.false(mentions(argv, file), argv.join(' '));
  }
  t.true(mentions(['-drive', 'file=/a,,b.img'], '/a,b.img'));
});
