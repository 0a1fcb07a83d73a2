#!/bin/sh
# Writes the lab host's initrd to stdout: busybox and what it takes to mount an ext4 virtio disk. Runs inside the root.
set -eu
kernel=$1
tree=$(mktemp -d)
mkdir -p "$tree/bin" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/root" "$tree/modules"
cp /bin/busybox "$tree/bin/busybox"
modprobe --set-version "$kernel" --show-depends --all virtio_pci virtio_blk ext4 crc32c |
  while read -r kind path _; do
    [ "$kind" = insmod ] || continue
    case " ${seen:-} " in *" $path "*) continue ;; esac
    seen="${seen:-} $path"
    cp "$path" "$tree/modules/"
    echo "insmod /modules/$(basename "$path")" >> "$tree/load"
  done
cat > "$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /bin && /bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
. /load
mount -t ext4 -o noatime /dev/vda /root || exec sh
mount --move /dev /root/dev
exec switch_root /root /sbin/lab-init
INIT
chmod 755 "$tree/init"
cd "$tree"
find . | cpio --quiet --create --format=newc
