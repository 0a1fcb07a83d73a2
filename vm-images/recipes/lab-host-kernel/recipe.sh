#!/bin/sh
# The lab's host with the kernel of Debian bookworm (6.1), which is built without CONFIG_KVM_XEN.
# Called by mmdebstrap as `recipe.sh PHASE ROOT`; everything but the kernel is the other host's recipe (host.sh).
set -eu
phase=$1 root=$2
here=$(dirname "$(readlink -f "$0")")
suite=bookworm

# Only the files of the package: its maintainer scripts would make an initrd that nobody uses.
unpack_kernel() {
  work=$(mktemp -d)
  mirror=$(sed -n 's/^deb \(\[.*\] \)\{0,1\}\([^ ]*\) .*/\2/p' "$root/etc/apt/sources.list" | head -n 1)
  echo "deb $mirror $suite main" > "$root/etc/apt/sources.list.d/$suite.list"
  chroot "$root" apt-get -q update
  package=$(chroot "$root" apt-cache show "linux-image-amd64/$suite" |
    sed -n 's/^Depends:.*\(linux-image-6[^ ,]*-amd64\).*/\1/p' | head -n 1)
  chroot "$root" sh -c "cd /tmp && apt-get -q download '$package'"
  dpkg-deb --extract "$root"/tmp/linux-image-*.deb "$work"
  rm "$root"/tmp/linux-image-*.deb "$root/etc/apt/sources.list.d/$suite.list"
  modules=$work/lib/modules/$(ls "$work/lib/modules")/kernel
  for unused in sound net/wireless net/bluetooth drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/iio \
    drivers/scsi drivers/usb drivers/hid drivers/hwmon drivers/platform drivers/net/ethernet drivers/net/wireless \
    drivers/net/wwan drivers/net/can; do
    rm -rf "${modules:?}/$unused"
  done
  mkdir -p "$root/usr/lib/modules" "$root/boot"
  cp -a "$work"/lib/modules/* "$root/usr/lib/modules/"
  cp "$work"/boot/vmlinuz-* "$root/boot/"
  rm -r "$work"
}

case $phase in
  essential) ;;
  *)
    unpack_kernel
    sh "$here/host.sh" "$phase" "$root"
    ;;
esac
