#!/bin/sh
# Makes a Debian root the lab's host: boots with one small initrd, hands over to the job that the lab passes in.
# Called by mmdebstrap as `recipe.sh PHASE ROOT`; OUT is where the kernel and initrd go.
set -eu
phase=$1 root=$2

essential() {
  # The lab has an initrd of its own: no need to let the kernel package make its big one.
  chroot "$root" dpkg-divert --quiet --local --rename --divert /usr/sbin/update-initramfs.unused \
    --add /usr/sbin/update-initramfs
  printf '#!/bin/sh\nexit 0\n' > "$root/usr/sbin/update-initramfs"
  chmod 755 "$root/usr/sbin/update-initramfs"
}

customize() {
  kernel=$(ls "$root/usr/lib/modules")
  emulator "$OUT/emulator"
  cp "$root/boot/vmlinuz-$kernel" "$OUT/vmlinuz"
  cp "$here/init.sh" "$root/sbin/lab-init"
  chmod 755 "$root/sbin/lab-init"
  rm -f "$root"/boot/vmlinuz-* "$root"/boot/System.map-*
  # Modules stay unpacked: decompressing xz on an emulated CPU is slow.
  find "$root/usr/lib/modules/$kernel" -name '*.ko.xz' -exec xz --decompress {} +
  chroot "$root" depmod "$kernel"
  cp "$here/initrd.sh" "$root/tmp/lab-initrd.sh"
  chroot "$root" sh /tmp/lab-initrd.sh "$kernel" > "$OUT/initrd"
  rm "$root/tmp/lab-initrd.sh"
}

# This release's QEMU with all it loads, to run the lab with on whatever machine: see lab/machine.ts.
emulator() {
  mkdir -p "$1/lib" "$1/share"
  cp "$root/usr/bin/qemu-system-x86_64" "$1/"
  for library in $(chroot "$root" ldd /usr/bin/qemu-system-x86_64 | grep -o '/[^ ]*'); do
    cp -L "$root$library" "$1/lib/"
  done
  cp -L "$root"/usr/share/qemu/linuxboot_dma.bin "$root"/usr/share/qemu/kvmvapic.bin \
    "$root"/usr/share/seabios/bios-256k.bin "$1/share/"
}

here=$(dirname "$(readlink -f "$0")")
"$phase"
