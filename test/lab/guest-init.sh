#!/bin/busybox sh
# Question: how does a guest become a machine with Docker, on which the lab's scenes are played?
# It is pid 1. The kernel's messages and ours go to the first serial line, results to the second.
# Input: /lab (guest.ts makes it), with policy.bin where SELinux shall be enforcing.
export PATH=/usr/bin:/usr/sbin HOME=/root
die() { echo "guest: $*"; tail -n 5 /tmp/dockerd.log; poweroff -f; }

# With SELinux this script runs twice: as the kernel's domain, and then as init's scripts run.
if [ "$1" != confined ]; then
  mount -t proc none /proc
  mount -t sysfs none /sys
  run= tmp= lib=
  if [ -e /lab/policy.bin ]; then
    mount -t selinuxfs none /sys/fs/selinux || die "this kernel runs without SELinux"
    dd if=/lab/policy.bin of=/sys/fs/selinux/load bs=16M 2>/dev/null || die "the policy does not load"
    run=,rootcontext=system_u:object_r:var_run_t:s0
    tmp=,rootcontext=system_u:object_r:tmp_t:s0
    lib=,rootcontext=system_u:object_r:var_lib_t:s0
  fi
  mount -t devtmpfs none /dev
  mkdir -p /dev/pts /dev/shm /run /tmp /root
  mount -t devpts none /dev/pts
  mount -t tmpfs none /dev/shm
  mount -t tmpfs -o "mode=755$run" none /run
  mount -t tmpfs -o "mode=1777$tmp" none /tmp
  mount -t tmpfs -o "mode=755$lib" none /var/lib
  mount -t cgroup2 none /sys/fs/cgroup
  [ ! -e /sys/kernel/security ] || mount -t securityfs none /sys/kernel/security
  if [ -e /lab/policy.bin ]; then
    setfiles /etc/selinux/default/contexts/files/file_contexts /dev || die "no labels for /dev"
    exec runcon system_u:system_r:initrc_t:s0 /usr/bin/busybox sh /lab/init confined
  fi
fi
options=
if [ -e /lab/policy.bin ]; then
  # For the Node of the scenes, which runs as init's scripts; authproxy_t has the right by itself.
  echo 1 >/sys/fs/selinux/booleans/allow_execmem
  echo 1 >/sys/fs/selinux/commit_pending_bools
  echo 1 >/sys/fs/selinux/enforce
  options="--selinux-enabled --add-runtime authproxy=/opt/authproxy/current/dist/runtime/authproxy-runc"
fi
ip link set lo up
ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up || die "no network to the host"

# By ourselves, because dockerd gives a containerd of its own 15 s to start, and an emulated one may need
# longer. Through pipes: a daemon that SELinux confines may not write a file that is ours.
{
  containerd 2>&1 | cat >/tmp/containerd.log
  die "containerd ended: $(tail -n 3 /tmp/containerd.log)"
} &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.2; done
{
  dockerd $options --containerd /run/containerd/containerd.sock --iptables=false \
    --ip6tables=false --bridge=none --userland-proxy=false \
    --exec-opt native.cgroupdriver=cgroupfs 2>&1 | cat >/tmp/dockerd.log
  die "dockerd ended"
} &
until [ -S /var/run/docker.sock ]; do sleep 0.2; done
/lab/bin/node /lab/authproxy/test/lab/inside.ts /lab/guest.json >/dev/ttyS1 || die "the scenes failed"
sync
poweroff -f
