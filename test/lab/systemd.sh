#!/bin/sh
# Question: how does a Docker engine run under systemd, with its cgroup driver, on any machine?
# Run as the first process of new mount, pid and cgroup namespaces. Its root is empty but for the
# tree's /usr, this machine's /tmp (by the same path, for the sockets), and what is written here.
# Usage: systemd.sh DIRECTORY TREE CONFIG     (CONFIG: dockerd's)
set -eu
root=$1/root
mkdir -p "$root"
mount -t tmpfs none "$root"
cd "$root"
mkdir -p usr etc/systemd/system proc sys dev run tmp var host
ln -s usr/bin usr/sbin usr/lib usr/lib64 .
mount --rbind "$2/usr" usr
mount --rbind /tmp tmp
mount --rbind /dev dev
mount -t proc none proc
mount -t tmpfs none run
mount -t sysfs none sys
mount -t cgroup2 none sys/fs/cgroup # this namespace's: all that systemd can arrange
echo root:x:0:0:root:/:/bin/sh >etc/passwd
echo root:x:0: >etc/group
echo uninitialized >etc/machine-id
cat >etc/systemd/system/lab.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/sbin/dockerd --config-file $3
Environment=PATH=/usr/sbin:/usr/bin
Delegate=yes
StandardOutput=append:$1/log
StandardError=append:$1/log
UNIT
pivot_root . host # where the project and its Node still are, for who enters
mount --make-rshared /
export container=lab
exec /lib/systemd/systemd --unit=lab.service
