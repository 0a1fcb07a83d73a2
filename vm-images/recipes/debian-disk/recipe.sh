#!/bin/sh
# Makes a Debian root a guest that boots from its own disk: GRUB for BIOS and for UEFI, systemd, a console login, eth0 at
# 192.0.2.2. Called by mmdebstrap as `recipe.sh PHASE ROOT`; OUT gets what stands before the root file system on the disk
# (head.img: partition table, GRUB, EFI system partition), the firmware that a machine with UEFI starts with, and GRUB as a
# PVH guest of its own (grub-pvh.elf). SIZE is that of the root file system in MiB.
set -eu
phase=$1 root=$2

# MiB: the EFI system partition from 1, the root file system from there to the end.
esp=1
head=16
# Sectors in a MiB.
mib=2048

essential() {
  mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
  printf 'MODULES=list\nCOMPRESS=lz4\nCOMPRESSLEVEL=1\n' > "$root/etc/initramfs-tools/conf.d/xenshim"
  printf 'xen-blkfront\next4\ncrc32c\n' > "$root/usr/share/initramfs-tools/modules.d/xenshim"
}

customize() {
  kernel=$(ls "$root/usr/lib/modules")
  cp "$root/boot/vmlinuz-$kernel" "$OUT/vmlinuz"
  cp "$root/boot/initrd.img-$kernel" "$OUT/initrd"
  echo guest > "$root/etc/hostname"
  echo '127.0.0.1 localhost guest' > "$root/etc/hosts"
  echo '/dev/xvda2 / ext4 errors=remount-ro,noatime 0 1' > "$root/etc/fstab"
  passwd --root "$root" --delete root
  rm -f "$root"/etc/update-motd.d/* "$root/etc/motd"
  printf '[Match]\nName=eth0\n[Network]\nAddress=192.0.2.2/24\nLinkLocalAddressing=no\n' \
    > "$root/etc/systemd/network/eth0.network"
  # The name that Linux gives, whatever bus systemd finds the card on.
  ln -sf /dev/null "$root/etc/systemd/network/99-default.link"
  chroot "$root" systemctl --quiet enable systemd-networkd
  # Nothing that wakes up by itself, and nothing for hardware that is not there.
  chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service systemd-networkd-wait-online.service man-db.timer
  grub
  mv "$root/tmp/head.img" "$root/tmp/grub-pvh.elf" "$OUT/"
  cp "$root/usr/share/OVMF/OVMF_CODE_4M.fd" "$OUT/uefi-code.fd"
  cp "$root/usr/share/OVMF/OVMF_VARS_4M.fd" "$OUT/uefi-vars.fd"
  rm -rf "$root/usr/share/OVMF" "$root/usr/share/ovmf" "$root/usr/share/qemu"
}

# no_timer_check is what Linux tells itself on KVM; here it finds Xen, and its timers may be as slow.
grub() {
  mkdir -p "$root/boot/grub"
  cat > "$root/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_output serial
echo "GRUB on \$grub_platform starts Linux"
linux /boot/vmlinuz-$kernel root=/dev/xvda2 ro console=hvc0 quiet no_timer_check
initrd /boot/initrd.img-$kernel
boot
CFG
  chroot "$root" sh -eu <<GRUB
cd /tmp
modules='part_msdos ext2 fat normal configfile linux serial terminal echo ls cat search reboot halt'
grub-mkimage -O i386-pc -o core.img -p '(hd0,msdos2)/boot/grub' biosdisk \$modules
grub-mkimage -O i386-xen_pvh -o grub-pvh.elf -p /none part_msdos ext2 normal echo ls cat halt
grub-mkimage -O x86_64-efi -o grub.efi -p '(hd0,msdos2)/boot/grub' \$modules
truncate -s $((head - esp))M esp.img
mkfs.fat -F 16 -s 2 -n ESP esp.img > mkfs.out
mmd -i esp.img ::EFI ::EFI/BOOT
mcopy -i esp.img grub.efi ::EFI/BOOT/BOOTX64.EFI
truncate -s ${head}M head.img
dd if=/usr/lib/grub/i386-pc/boot.img of=head.img bs=440 count=1 conv=notrunc status=none
dd if=core.img of=head.img bs=512 seek=1 conv=notrunc status=none
dd if=esp.img of=head.img bs=1M seek=$esp conv=notrunc status=none
[ \$(stat -c %s core.img) -lt $((esp * 1048576 - 512)) ]
perl -e 'print pack("(C4C4VV)2 x32 v", 0, 0, 0, 0, 0xef, 0, 0, 0, $((esp * mib)), $(((head - esp) * mib)),
  0x80, 0, 0, 0, 0x83, 0, 0, 0, $((head * mib)), $((SIZE * mib)), 0xaa55)' | dd of=head.img bs=1 seek=446 conv=notrunc status=none
rm core.img grub.efi esp.img mkfs.out
GRUB
}

here=$(dirname "$(readlink -f "$0")")
"$phase"
