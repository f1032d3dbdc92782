#!/bin/busybox sh
# Question: how does a guest become a machine with Docker or Podman, on which the lab's scenes are played?
# It is pid 1. The kernel's messages and ours go to the first serial line, results to the second.
# Input: /lab (guest.ts makes it), with policy.bin where the kernel shall have SELinux's labels; on the
# kernel's command line the second serial line and the program that plays.
export PATH=/usr/bin:/usr/sbin:/lab/bin HOME=/root
die() { echo "guest: $*"; tail -n 5 /tmp/engine.log; poweroff -f; }

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm /run /tmp /root
mount -t devpts none /dev/pts
for directory in /run /tmp /dev/shm /var/lib; do mount -t tmpfs none "$directory"; done
mount -t cgroup2 none /sys/fs/cgroup
[ ! -e /sys/kernel/security ] || mount -t securityfs none /sys/kernel/security
chmod 1777 /tmp
options=
if [ -e /lab/policy.bin ]; then
  mount -t selinuxfs none /sys/fs/selinux || die "this kernel runs without SELinux"
  dd if=/lab/policy.bin of=/sys/fs/selinux/load bs=16M 2>/dev/null || die "the policy does not load"
  options=--selinux-enabled
fi
ip link set lo up
ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up || die "no network to the host"

start_docker() {
  # By ourselves, because dockerd gives a containerd of its own 15 s to start, and an emulated one may need
  # longer. As dockerd has it: without the plugin for Kubernetes.
  echo 'version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]' >/tmp/containerd.toml
  {
    containerd --config /tmp/containerd.toml >/tmp/containerd.log 2>&1
    die "containerd ended: $(tail -n 3 /tmp/containerd.log)"
  } &
  until [ -S /run/containerd/containerd.sock ]; do sleep 0.2; done
  {
    dockerd $options --containerd /run/containerd/containerd.sock --iptables=false \
      --ip6tables=false --bridge=none --userland-proxy=false \
      --exec-opt native.cgroupdriver=cgroupfs >/tmp/engine.log 2>&1
    die "dockerd ended"
  } &
  until [ -S /var/run/docker.sock ]; do sleep 0.2; done
}

start_podman() {
  mkdir -p /run/podman /var/tmp
  {
    podman system service --time 0 unix:///run/podman/podman.sock >/tmp/engine.log 2>&1
    die "podman ended"
  } &
  until [ -S /run/podman/podman.sock ]; do sleep 0.2; done
}

if [ -x /usr/bin/podman ]; then start_podman; else start_docker; fi
/lab/bin/node "/lab/authproxy/test/lab/$program" /lab/guest.json >"/dev/$results" ||
  die "the scenes failed"
sync
poweroff -f
