#!/bin/sh
# Makes a Debian root a guest: Debian's own kernel and initramfs, a console login, eth0 by ifupdown.
# Called by mmdebstrap as `recipe.sh PHASE ROOT`; OUT is where the kernel and initrd go.
set -eu
phase=$1 root=$2

# Settings that initramfs-tools must find when the kernel package is installed.
essential() {
  mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
  printf 'MODULES=list\nCOMPRESS=lz4\nCOMPRESSLEVEL=1\n' > "$root/etc/initramfs-tools/conf.d/xenshim"
  # Without udev (see the manifest) nobody else hands the kernel's /dev over to the root file system.
  mkdir -p "$root/etc/initramfs-tools/scripts/init-bottom"
  printf '#!/bin/sh\n[ "$1" = prereqs ] || mount -n -o move /dev "$rootmnt/dev"\n' \
    > "$root/etc/initramfs-tools/scripts/init-bottom/devtmpfs"
  chmod 755 "$root/etc/initramfs-tools/scripts/init-bottom/devtmpfs"
  printf 'xen-blkfront\next4\ncrc32c\n' > "$root/usr/share/initramfs-tools/modules.d/xenshim"
}

customize() {
  kernel=$(ls "$root/usr/lib/modules")
  cp "$root/boot/vmlinuz-$kernel" "$OUT/vmlinuz"
  cp "$root/boot/initrd.img-$kernel" "$OUT/initrd"
  echo guest > "$root/etc/hostname"
  echo '127.0.0.1 localhost guest' > "$root/etc/hosts"
  echo '/dev/xvda / ext4 errors=remount-ro,noatime 0 1' > "$root/etc/fstab"
  echo xen-netfront >> "$root/etc/modules"
  # Boot services of no use to this guest; each costs seconds on an emulated CPU. devtmpfs makes the device nodes.
  for service in bootlogs brightness hwclock.sh mountnfs.sh mountnfs-bootclean.sh rmnologin udev; do
    [ ! -e "$root/etc/init.d/$service" ] || chroot "$root" update-rc.d -f "$service" remove
  done
  passwd --root "$root" --delete root
  cat > "$root/etc/network/interfaces" <<'INTERFACES'
auto lo
iface lo inet loopback
auto eth0
iface eth0 inet static
  address 192.0.2.2/24
INTERFACES
  cat > "$root/etc/inittab" <<'INITTAB'
id:2:initdefault:
si::sysinit:/etc/init.d/rcS
l0:0:wait:/etc/init.d/rc 0
l2:2:wait:/etc/init.d/rc 2
l6:6:wait:/etc/init.d/rc 6
~~:S:wait:/sbin/sulogin --force
hv:2:respawn:/sbin/getty -L hvc0 115200 linux
INITTAB
}

"$phase"
