#!/bin/sh
# The way down: `shutdown.sh -p` powers off, `shutdown.sh -r` reboots.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
killall5 -9
mount -o remount,ro /
case $1 in
  -r) reboot -d -f ;;
  *) poweroff -d -f ;;
esac
