#!/usr/bin/env bash
# Boots systemd in namespaces of its own: `boot.sh FOLDER`, which is /run/files there, and its opt/ is /opt.
# The machine's files are read-only here, and none of its own units runs: they would clean up its /tmp.
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/units /run/files /run/etc/upper /run/etc/work
for unit in sysinit basic network-online multi-user shutdown; do
  printf '[Unit]\nDescription=%s\n' "$unit" >"/run/units/$unit.target"
done
mount --bind "$1" /run/files
mount --bind "$1/opt" /opt
mount -o remount,bind,ro /
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
for folder in /tmp /var /usr/lib/systemd/system-generators /dev/shm /etc/systemd; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /var/lib /var/tmp /etc/systemd/system
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=other SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units
exec /usr/lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
