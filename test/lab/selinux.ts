// Question: what is the smallest SELinux policy under which a container has a label of its own?
// Output:   its text in CIL, for secilc. It permits everything it names, and the guest enforces
//           nothing: what counts here is which label a process has, not what it may do.
// Sources:  the SELinux project's CIL reference guide; the kernel's initial_sid_to_string.h.

/** The kernel's initial identifiers, in its order: they are numbered by it. */
const SIDS = `kernel security unlabeled fs file file_labels init any_socket port netif netmsg node
  igmp_packet icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net
  sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull`.split(/\s+/);

const CLASSES = {
  security: "compute_av",
  process: "transition dyntransition fork",
  system: "ipc_info",
  capability: "chown",
  filesystem: "mount",
  file: "read write entrypoint execute",
  dir: "read search",
};
const TYPES = ["kernel_t", "file_t", "container_t", "container_file_t"];
const CATEGORIES = Array.from({ length: 1024 }, (_, i) => `c${i}`);
const XATTR = ["ext4", "overlay"];
const TRANS = ["tmpfs", "devtmpfs", "devpts", "mqueue"];
const GENERAL = ["proc", "sysfs", "cgroup2", "selinuxfs", "rootfs"];
const FILE = "(system_u object_r file_t lowest)";

export const CONTAINER_LABEL = "system_u:system_r:container_t:s0:c1,c2";

/** What Docker labels containers with (selinux(8), lxc_contexts). */
export const lxcContexts = `process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file = "system_u:object_r:container_file_t:s0"
`;

export function policy(): string {
  const domains = [...SIDS].map((sid) =>
    ["kernel", "init"].includes(sid)
      ? `(sidcontext ${sid} (system_u system_r kernel_t lowest))`
      : `(sidcontext ${sid} ${FILE})`,
  );
  return [
    "(handleunknown allow)(mls true)",
    ...Object.entries(CLASSES).map(([name, verbs]) => `(class ${name} (${verbs}))`),
    `(classorder (${Object.keys(CLASSES).join(" ")}))`,
    ...SIDS.map((sid) => `(sid ${sid})`),
    `(sidorder (${SIDS.join(" ")}))`,
    "(sensitivity s0)(sensitivityorder (s0))",
    ...CATEGORIES.map((name) => `(category ${name})`),
    `(categoryorder (${CATEGORIES.join(" ")}))`,
    "(sensitivitycategory s0 (range c0 c1023))",
    "(level low (s0))(level high (s0 (range c0 c1023)))",
    "(levelrange all (low high))(levelrange lowest (low low))",
    "(user system_u)(userlevel system_u low)(userrange system_u all)",
    "(role system_r)(role object_r)(userrole system_u system_r)(userrole system_u object_r)",
    ...TYPES.map((type) => `(type ${type})(roletype system_r ${type})(roletype object_r ${type})`),
    `(typeattribute any)(typeattributeset any (${TYPES.join(" ")}))`,
    ...Object.entries(CLASSES).map(([name, verbs]) => `(allow any any (${name} (${verbs})))`),
    ...domains,
    ...XATTR.map((type) => `(fsuse xattr ${type} ${FILE})`),
    ...TRANS.map((type) => `(fsuse trans ${type} ${FILE})`),
    ...GENERAL.map((type) => `(genfscon ${type} / ${FILE})`),
  ].join("\n");
}
