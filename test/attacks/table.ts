// Question: which attack met which end? Input: what each test saw, once it has seen it.
// Output:   after each test file, its rows: number, attack, naive, minus one, defended, honest;
//           with ATTACKS=write also in docs/attacks.md, in the place of the rows with these numbers.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll } from "vitest";

/** Every attack of this folder, and of test/kubernetes/attacks.kube.ts: "K". */
export const attacks = {
  "1": "pid reuse: the connector exits, its child keeps the socket",
  "2": "the engine still reports a dead first process, its number is used again after 30 s",
  "3": "connect, a child keeps the socket, exec the trusted binary",
  "4": "as 3, by the first process alone: the socket is sent to another container",
  "5": "the peer dies between decision and send, a child reads",
  "6": "set-user-ID exec after connect",
  "7": "exe forged by docker exec: a bind mount in a user and a mount namespace",
  "7b": "exe forged by docker exec: a bind mount in a mount namespace alone (CAP_SYS_ADMIN)",
  "8": "docker exec, or code run inside, connects",
  "9": "ptrace makes pid 1 connect again",
  "9b": "as 9, after the server was killed and started again",
  "10": "pidfd_getfd by docker exec takes the socket that waits",
  "11": "the token is read from memory or environment, when the application runs",
  "11b": "the token is read from memory, while the client has it",
  "12": "SIGUSR1 opens Node's inspector",
  "13": "program overwritten in the writable layer, container restarted",
  "14": "an image's own LABEL",
  "14b": "the labels that Compose writes into images it builds",
  "14c": "an image committed from a running container, with its labels",
  "15": "a tag moved to another image; a host name; a container name",
  "16": "a host process joins the victim's cgroups",
  "16b": "a host process was delegated a cgroup with the victim's name",
  "16c": "a container with CAP_SYS_ADMIN joins the victim's cgroups",
  "16d":
    "a host user makes a cgroup with the victim's name in its session, below the name of root's",
  "18": "root in a container replaces the socket, its directory mounted writable",
  "18b": "a user in a container replaces the socket, its directory writable by others",
  "20": "a web request forged to the socket: bytes queued before accept",
  "22": "a flood of connections from one container",
  "23": "no descriptor is left: the loop that accepts",
  "24": "server in its own pid namespace: pid 0 is the State.Pid of a stopped container",
  "25": "comm = `x) R 1 1\\nUid:\\t0`",
  "25b": "a file named `trusted (deleted)`",
  "26": "newlines and escapes in names and labels",
  "31": "Vault stalls while the peer is killed",
  "32": "the wrapped token is stolen, and unwrapped first",
  "33": "-e NODE_OPTIONS=--import=data:… under the pinned image, Path and Args",
  "33b": "a mount over the program under the pinned image, Path and Args",
  "34": "program overwritten on a VOLUME, container with a read-only root restarted",
  "34b": "a script on a volume, named in the shell form of CMD, overwritten, restarted",
  "34c": "a script on a volume, named in a URL, overwritten, restarted",
  "34d": "a script that a symbolic link of the image puts on a volume, overwritten, restarted",
  "35": "a host user of the same uid takes the socket that waits",
  "35b": "docker exec attaches, patches the client, detaches, leaves",
  "36": "SIGUSR1 before the script's first line",
  "37": "a client that speaks after accept",
  "38": "pid 1 unshares user and mount namespace, mounts over the trusted program, execs it",
  "38b":
    "uid 0 of an ordinary container makes a user namespace with all its users, mounts over the trusted program, execs it",
  "38c":
    "as 38b, below the user namespace of a container whose users are mapped, with the same map",
  "38d": "as 38b, in the user namespace of another container, which sends it a descriptor of that",
  "38e": "as 38, the first process of a pid namespace in that user namespace",
  "38f":
    "the first process of a container whose users are mapped mounts over the trusted program, execs it (CAP_SYS_ADMIN)",
  "38g":
    "as 38, in a child that opens the program there and is gone; pid 1 execs it by the descriptor",
  "38h":
    "pid 1 execs the trusted program of another container, which sends it a descriptor of that",
  "39": "company or another program arrives while Vault is slow",
  "40": "`A/../../x_FILE=vault:…` writes outside the directory",
  "41": "the token is used up, and its container asks again",
  "42": "reading /proc/PID/cmdline waits for the peer's memory lock",
  "43": "a seccomp supervisor in another container makes the trusted program's sockets",
  "44": "another working directory, in memory shared with another container, under all pins of 33",
  "45": "a container that shares the pid namespace takes the socket that waits",
  "46": "the wall clock is stepped",
  "47": "a health check given at docker run patches the client, under all pins of 33",
  "50": "400 processes of a container whose image has 3.9 MB of labels ask without an end",
  "50b": "200 processes, each in a pid namespace of its own, ask without an end",
  "55": "a served container hangs up before it is answered, again and again",
  "63b": "as 50b, below the cgroup of a victim that starts again",
  "59": "a front of Vault answers a revocation by 404 without a body",
  "68": "a front of Vault answers by a text that is no JSON, and holds a token",
  "69": "a front of Vault answers in its place after a wrapped token was minted",
  "71": "a front of Vault drops the header that asks for a wrapped token",
  "73": "a host user can write the directory of the configuration, and puts a link there",
  "51": "thousands of cgroups below a container's own",
  "57": "a health check prints a secret, then another process is refused",
  "60": "the same variables in another order, Config.Env pinned",
  "62": "another process leaves the cgroup, in one hierarchy of several (CAP_SYS_ADMIN)",
  "63": "--cgroup-parent below the victim's cgroup, the victim restarted",
  "64": "program overwritten on a writable mount below a read-only one, restarted",
  "65": "ptrace of a thread that is not the first, while the client waits",
  "72": "the program of a health check overwritten on a volume, restarted, patches the client",
  "54": "secrets on standard input, in a /dev/shm that another container has too",
  "54b": "files of secrets in a /dev/shm that another container has too",
  "58": "a link of the image leads a shared volume over the directory for secrets; the other container takes that directory away",
  "59b": "a front of Vault answers 404 without a body: the default of a secret that exists",
  "61": "X_DIR given to another user, who puts links there: root's files are removed",
  "68b":
    "a text that is not JSON and holds a secret, quoted by an error of the client or the runtime",
  K1: "pid reuse between accept and the look at /proc",
  K2: "a cgroup with the victim's name among the mounts of a mount namespace of its own",
  K3: "a cgroup below its own, with the victim's name",
  K3b: "a hostPath to the cgroups: a pod joins the victim's",
  K4: "kubectl exec, or code run inside later, connects",
  K5: "kubectl debug: an ephemeral container with the pod's labels and another image",
  K5b: "kubectl debug: the pod's labels and image, another command",
  K5c: "kubectl debug --target takes the socket that waits",
  K6: "shareProcessNamespace: another container of the pod takes the socket that waits",
  K6b: "hostPID: another pod of the same uid takes the socket that waits",
  K7: "a container that has just started, or started again",
  K7b: "a hostPath to the cgroups: the name of a container that has ended, whose pod is still listed",
  K8: "a label put on a running pod, whose container starts again",
  K8b: "another image put on a running pod",
  K9: "a pod of another namespace with the name, labels, annotations and owner of the victim's",
  K10: "a pod that names the service account of another",
  K11: "a tag moved to another image; two tags of one image",
  K12: "the API server is away, and a container starts again",
  K13: "gVisor: another container of a pod, whose peer is runsc-gofer",
  K14: "program on an emptyDir overwritten by another container of the pod, its own started again",
};

type Arm = "naive" | "minus one" | "defended" | "honest";
const arms: Arm[] = ["naive", "minus one", "defended", "honest"];
const rows = new Map<string, string>();
export const document = join(import.meta.dirname, "../../docs/attacks.md");
const ROW = /^\| K?\d/;

afterAll(() => {
  console.log([...rows.values()].join("\n"));
  if (process.env.ATTACKS === "write") writeDown();
});

/** The rows of the document, by their number. */
export function rowsOf(text: string): Map<string, string> {
  const lines = text.split("\n").filter((line) => ROW.test(line));
  return new Map(lines.map((line) => [line.split(" ")[1] ?? "", line]));
}

function writeDown(): void {
  const text = readFileSync(document, "utf8");
  const all = [...rowsOf(text), ...rows].filter(([number]) => number in attacks);
  const order = new Intl.Collator("en", { numeric: true });
  const sorted = [...new Map(all)].sort(([a], [b]) => order.compare(a, b));
  const first = sorted.findIndex(([number]) => number.startsWith("K"));
  const tables = [sorted.slice(0, first), sorted.slice(first)];
  const lines = text.split("\n").filter((line) => !ROW.test(line));
  const withRows = lines.flatMap((line) => {
    const table = line.startsWith("|---") ? (tables.shift() ?? []) : [];
    return [line, ...table.map(([, row]) => row)];
  });
  writeFileSync(document, withRows.join("\n"));
}

/** Writes one result of an attack down. */
export type Note = (arm: Arm, result: string) => void;

/** A row of the table, and what a test calls when it knows an arm's end. `notSeparable`: why no arm
 * shows the defence by taking it away. */
export function attack(number: keyof typeof attacks, notSeparable = "not run"): Note {
  const found = new Map<Arm, Set<string>>(arms.map((arm) => [arm, new Set()]));
  afterAll(() => {
    const none = (arm: Arm) => (arm === "minus one" ? notSeparable : "not run");
    const cells = arms.map((arm) => [...(found.get(arm) ?? [])].join("; ") || none(arm));
    rows.set(number, `| ${[number, attacks[number], ...cells].join(" | ")} |`);
  });
  return (arm, result) => found.get(arm)?.add(result);
}
