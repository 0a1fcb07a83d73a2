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

# The kernel itself, an ELF file with the PVH note, out of its bzImage: Linux, Documentation/arch/x86/boot.rst tells where the
# payload lies. Its last four bytes are the length of what it unpacks to.
vmlinux() {
  perl -we 'local $/; open F, "<:raw", shift; $_ = <F>; my ($at, $length) = unpack("V2", substr($_, 0x248, 8));
    print substr($_, (ord(substr($_, 0x1f1, 1)) + 1) * 512 + $at, $length - 4)' "$OUT/vmlinuz" |
    chroot "$root" zstd --decompress --stdout --quiet
}

customize() {
  kernel=$(ls "$root/usr/lib/modules")
  cp "$root/boot/vmlinuz-$kernel" "$OUT/vmlinuz"
  cp "$root/boot/initrd.img-$kernel" "$OUT/initrd"
  if [ -e "$root/usr/bin/zstd" ]; then vmlinux > "$OUT/vmlinux"; fi
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
