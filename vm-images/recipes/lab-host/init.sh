#!/bin/sh
# First process of the lab host: just enough of a system to run one job, then power off.
# The job's folder comes over 9p; `run` in it is executed, its status goes to `status`.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /job
mount -t devpts -o mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/netns
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
ln -sf /proc/self/fd /dev/fd
hostname lab
ip link set lo up
for module in 9p 9pnet_virtio virtio_console kvm_amd tun loop; do
  modprobe "$module" || echo "lab: module $module does not load" >&2
done
# A guest's RAM is a memfd as large as the guest; the kernel must not refuse it for being larger than what is free.
echo 1 > /proc/sys/vm/overcommit_memory
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 job /job
out=/dev/console
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name" 2>/dev/null)" = out ] && out=/dev/$(basename "$port")
done
cd /
setsid sh /job/run < /dev/null > "$out" 2>&1
echo $? > /job/status
sync
umount /job
poweroff -f 2>/dev/null || busybox poweroff -f
