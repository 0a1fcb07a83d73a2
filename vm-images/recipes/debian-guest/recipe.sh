#!/bin/sh
# Makes a Debian root a guest: Debian's own kernel and initramfs, sysvinit, a console login, eth0 at 192.0.2.2.
# Called by mmdebstrap as `recipe.sh PHASE ROOT`; OUT is where the kernel and initrd go.
set -eu
phase=$1 root=$2
here=$(dirname "$(readlink -f "$0")")

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
  passwd --root "$root" --delete root
  # What runs before each login's shell.
  rm -f "$root"/etc/update-motd.d/* "$root/etc/motd"
  install -m 755 "$here/boot.sh" "$root/usr/local/sbin/boot"
  install -m 755 "$here/shutdown.sh" "$root/usr/local/sbin/shutdown"
  mkdir -p "$root/etc/inittab.d"
  cat > "$root/etc/inittab" <<'INITTAB'
id:2:initdefault:
si::sysinit:/usr/local/sbin/boot
l0:0:wait:/usr/local/sbin/shutdown -p
l6:6:wait:/usr/local/sbin/shutdown -r
ca:12345:ctrlaltdel:/sbin/shutdown -r now
hv:2:respawn:/sbin/getty -L hvc0 115200 linux
INITTAB
}

"$phase"
