// The vocabulary. Nothing here runs: types are erased, and no module loads this file.
export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** What the kernel fixed at connect(): nobody can forge it. Source: SO_PEERCRED, SO_PEERGROUPS and
 * SO_PEERSEC (unix(7)), by peercred, which gives each connection an id. */
export type Peer = {
  id: string;
  pid: number;
  uid: number;
  gid: number;
  groups: number[];
  /** The MAC label; empty where the kernel has none. */
  label: string;
};

/** What /proc says; process.ts says who could forge what. */
export type Process = {
  exe: string;
  cgroup: string[];
  ppid: number;
  /** Real, effective, saved and file system id. */
  uids: number[];
  gids: number[];
  /** Others of its uid can read its memory and take its descriptors. */
  dumpable: boolean;
  /** Pid 1 of a pid namespace of its own. */
  init: boolean;
  /** No other process is in the container. */
  alone: boolean;
  /** Its numbers in each of its pid namespaces, the server's first. */
  pids: number[];
  /** The pid of its tracer, or 0. */
  tracer: number;
  /** Clock ticks after boot (USER_HZ: 100 a second). */
  start_ticks: number;
  namespaces: { user: string; pid: string; mnt: string };
};

/** What the engine says, under its own names: these parts, which the checks use, and all others. */
export type Container = JsonObject & {
  Id: string;
  Image: string;
  Path: string;
  Args: string[];
  State: { Pid: number; StartedAt: string };
  Config: { WorkingDir: string; Env: string[]; Labels: JsonObject | null };
  HostConfig: { ReadonlyRootfs: boolean };
  Mounts: { Destination: string; RW: boolean }[];
};

/** All that is known about a peer when it is judged. */
export type Facts = {
  peer: Peer;
  process: Process;
  container: Container;
  /** The process that the engine calls State.Pid. */
  init: Process;
  /** The labels that the container's image declares itself. */
  imageLabels: JsonObject;
  /** This start of the container has had no token. */
  first: boolean;
  /** The server's own, as /proc/self/ns/user says. */
  user_namespace: string;
  /** The wall clock's time at boot, in milliseconds. */
  bootMs: number;
};

export type Send = typeof import("node:http").request;
export type Exchange = import("node:http").RequestOptions & {
  /** The reason that a failure gives: "engine" or "vault". */
  whom: string;
  deadlineMs: number;
};

/** `create` is a path below /v1/ whose answer has `auth`, and `body` goes with it; or `read` is
 * PATH#KEY of a ready token, which all containers of the service share. */
export type TokenSource = {
  create?: string;
  body?: JsonObject;
  wrap_ttl?: string;
  read?: string;
  namespace?: string;
};
export type Service = { match: JsonObject; token: TokenSource; relax?: string[] };
export type VaultConfig = {
  address: string;
  ca?: string | undefined;
  namespace?: string;
  /** For keeper/login.ts. */
  login: {
    path?: string;
    body?: JsonObject;
    body_files?: Record<string, string>;
    token_file?: string;
    client_cert_file?: string;
    client_key_file?: string;
  };
};
/** As config/load.ts gives it: with defaults, and certificates in place of their files. */
export type Config = {
  socket: string;
  state: string;
  engine: string;
  allow_no_pidfd?: boolean;
  vault: VaultConfig;
  for_clients: { address: string; ca?: string | undefined; namespace?: string | undefined };
  services: Record<string, Service>;
};
/** A selector that does not hold: where in the identity document, what was wanted, what is there. */
export type Mismatch = { path: string; wanted?: Json; seen?: Json };

/** Vault's `auth`, as far as it is used: a token. Its duration in seconds. */
export type Auth = {
  client_token: string;
  accessor: string;
  lease_duration: number;
  renewable: boolean;
  orphan: boolean;
  policies: string[];
  token_type: string;
};
/** The token of one start of a container, as the state directory keeps it: no secret. */
export type Lease = {
  /** Of its file: CONTAINER-PID-TICKS of the container's first process, which are kernel facts and
   * no wall clock; for a second token of that start (where `once` is relaxed) also an own part. */
  name: string;
  start: { pid: number; ticks: number };
  /** The process that gets the token, and its start. */
  pid: number;
  ticks: number;
  /** That process has its token. */
  sent: boolean;
  /** What Vault says in its audit log at each use of the token. */
  meta: { container: string; service?: string; image?: string; uid?: string; host?: string };
  /** Not there before the token is minted, nor for a shared one. */
  accessor?: string;
  /** In seconds. */
  ttl?: number;
  renewable?: boolean;
  wrapped?: boolean;
  namespace?: string;
};
/** What the answer to a container says of it, and what the audit does. */
export type Minted = {
  token: string;
  accessor?: string;
  wrapped: boolean;
  /** In seconds. */
  ttl: number;
  renewable: boolean;
  namespace?: string;
};

/** What server and keeper tell each other; keeper/main.ts says which verbs there are. */
export type Message = { verb: string; name: string; fields: object };
