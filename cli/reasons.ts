// Question: what does a reason of the audit stream mean for the people of the host, and what can
// they do? The compiler requires words for each reason of the server; a test compares the list with
// docs/audit.md.
import type { Reason } from "../server/refusal.ts";

/** `happened` is a clause without a full stop, `advice` is sentences. */
export type ReasonWords = { happened: string; advice: string };

const WORDS: Record<Reason, ReasonWords> = {
  "no-pid": {
    happened: "the peer is in a pid namespace that the server cannot see",
    advice: "Run the server in the host's pid namespace (in a container: --pid host).",
  },
  exited: {
    happened: "the process that connected had exited before it could be answered",
    advice: "Find out why it exited: read the container's log, and check its memory limit.",
  },
  unreadable: {
    happened: "the peer's groups or security label could not be read",
    advice: "Give the container's user at most 256 groups (--group-add).",
  },
  spoke: {
    happened: "the peer sent something, and whoever sends something gets no token",
    advice: "Connect and only read: HTTP libraries and health probes cannot be clients.",
  },
  closed: {
    happened: "the peer closed its side of the connection before the answer",
    advice: "Keep both sides open until the answer has come, for at least 15 seconds.",
  },
  "no-container": {
    happened:
      "the peer's cgroup names no container, two containers, or one of an engine that is not " +
      "supported",
    advice:
      'Run it in a container of the engine that "engine" names: Docker, rootful Podman, or by ' +
      '{ "cri": … } that of a Kubernetes node. Rootless engines are not supported.',
  },
  "unknown-container": {
    happened: "the engine has no container with the id that the peer's cgroup names",
    advice:
      'Check "engine" in the configuration: it must be the socket of the engine that runs the ' +
      "container. If it is, the container has just been removed, or the process is in no container " +
      "and its cgroup has a name like one.",
  },
  engine: {
    happened: "the engine did not answer in time, or did not answer what it was asked",
    advice:
      'Check that the engine answers (docker ps, crictl ps), and "engine" in the configuration.',
  },
  "too-large": {
    happened: "the engine's answer about the container, or about its image, is longer than 1 MiB",
    advice: "Start it with fewer or shorter labels and variables, from an image with fewer labels.",
  },
  starting: {
    happened: "the engine had not finished starting the container",
    advice: "Do nothing if it got its token a moment later: the client asks again by itself.",
  },
  "no-match": {
    happened: "no service of the policy matches",
    advice:
      "Start the container as the nearest service wants it, or change that service's match; " +
      "`authproxy suggest` writes one for a running container.",
  },
  ambiguous: {
    happened: "more than one service matches",
    advice: "Add a selector to one of the services that containers of the others do not have.",
  },
  credentials: {
    happened: "the user or group in /proc is not the one that the kernel recorded at connect()",
    advice:
      "Start the client as the user that it is to run as, without a set-user-ID program before it.",
  },
  traced: {
    happened: "a tracer is attached to the process",
    advice: "Detach the debugger or tracer, and start the container again.",
  },
  "user-namespace": {
    happened:
      "the process is not in the user namespace that its container began with, or the configuration " +
      "serves none but the server's",
    advice:
      "If the engine maps users (userns-remap, --userns=auto, hostUsers: false), set " +
      '"user_namespaces": true in the configuration and start the server again. If that is set, ' +
      "start the client without a program before it that makes or enters a user namespace " +
      "(unshare, bubblewrap).",
  },
  namespace: {
    happened:
      "the process, or the program that it runs, is not in the cgroup and namespaces of the " +
      "container's first process",
    advice:
      "Let the container's first process be the client. A process that has moved itself, has " +
      "written another container's id into its cgroup, or runs a program that was opened in another " +
      "mount namespace, gets no token.",
  },
  clock: {
    happened: "the first process started later than the container, by the engine's clock",
    advice:
      "Wait until the host's clock is set, then start the container again. If the reason stays, " +
      "the engine reports a process that has ended: restart the container.",
  },
  init: {
    happened: "the process is not the container's first process",
    advice:
      "Put the client at the front of the entrypoint, and start without --init; in a pod, without " +
      "shareProcessNamespace and hostPID. What `docker exec` and `kubectl exec` run gets no token " +
      'unless the service relaxes "init".',
  },
  alone: {
    happened: "other processes were in the container",
    advice:
      "Let the client be the only process until it has its token: no --init, no shell that " +
      "stays, and a health check that begins later (--health-start-period). In a pod, the client " +
      "asks again until a postStart hook or an exec probe has ended.",
  },
  once: {
    happened: "this start of the container has had its token",
    advice:
      "Restart the container if its own program asked again. If nothing was meant to ask twice, " +
      "find out what runs inside it.",
  },
  readonly: {
    happened: "the program can be overwritten from inside the container",
    advice:
      "Start it with --read-only (of a pod only the volumes count), and with no writable volume or " +
      "bind mount over the program or its search paths. The detail names the mount, and the part " +
      "that lies on it: Args.0 is the first word of the command's arguments. If that mount holds " +
      'data alone, declare it as the service\'s "data". docs/policy.md has well-known images.',
  },
  labels: {
    happened: "the image itself declares a label that the policy matches on",
    advice:
      "Match on a label of your own that is given at the container's start (-l, or `labels:` in " +
      "Compose), or pin the image. Compose writes its own labels into images that it builds.",
  },
  "image-gone": {
    happened: "the engine no longer has the container's image, so its own labels are not known",
    advice:
      "Pull or load the image again and start the container from it, or pin `Image` in place of " +
      "labels.",
  },
  capabilities: {
    happened:
      "the container has a capability by which it can deceive the kernel's or engine's word",
    advice:
      "Start it without --privileged and without the --cap-add that the detail names, or relax " +
      '"capabilities" if it cannot work without.',
  },
  seccomp: {
    happened: "an agent of the starter's choice may answer the container's system calls",
    advice:
      "Start it without a seccomp profile that has SCMP_ACT_NOTIFY and without run.oci " +
      "annotations. Under Podman, pin HostConfig.SecurityOpt where the profile is a file.",
  },
  busy: {
    happened:
      "another process of the container was being judged or had just been refused, or the server " +
      "was stopping",
    advice:
      "Do nothing if it got its token a moment later; otherwise look at the other lines of this " +
      "container: what asks again and again?",
  },
  vault: {
    happened: "Vault did not answer in time, or answered with an error",
    advice:
      "Look at the status. None or 5xx: check that Vault is up and unsealed. 403: check that the " +
      "server's own policy allows updates of that path. 400 or 404: check that the token role " +
      "exists.",
  },
  "wrong-role": {
    happened:
      "the token role makes tokens that are not orphans, are batch tokens, or have the server's " +
      "rights",
    advice:
      "Write the role with orphan=true, token_type=service and allowed_policies=<only the " +
      "service's own policies>.",
  },
  wrapping: {
    happened:
      'Vault\'s answer was wrapped and "wrap_ttl" is not configured, or it was not wrapped and ' +
      '"wrap_ttl" is',
    advice:
      "Find out what changes requests or answers between the server and Vault, such as a proxy " +
      "that drops or adds the header X-Vault-Wrap-TTL.",
  },
  "no-token": {
    happened: "no token is where the service's ready one should be",
    advice: 'Write it there, under the key that "read" names after the #.',
  },
  changed: {
    happened: "the process changed while Vault was answering",
    advice:
      "Let the client itself connect, and let nothing exec or change user until it has its answer.",
  },
  audit: {
    happened: "the audit line of the grant could not be written, so no token was sent",
    advice: "Check what reads the server's standard output (journald, a pipe), and the disk.",
  },
  internal: {
    happened: "the server met an error that it does not foresee",
    advice:
      "Read the detail. EACCES at a file in /proc: run the server as root, or with " +
      "CAP_SYS_PTRACE, because /proc hides the programs of other users; where SELinux is " +
      "enforcing, install the module authproxy. Anything else is a defect: please report it.",
  },
};

/** All reasons: the compiler checks the keys of `WORDS` against the server's. */
export const REASONS = Object.keys(WORDS) as Reason[];

/** What a reason means. It may be of an audit line that another version of the server wrote: a
 * reason that is not known is "internal". */
export function explainReason(reason: string): ReasonWords {
  const known = REASONS.find((name) => name === reason);
  return WORDS[known ?? "internal"];
}
