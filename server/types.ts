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
  uid_map: string;
  gid_map: string;
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

export type Exchange = import("node:http").RequestOptions & {
  /** The reason that a failure gives: "engine" or "vault". */
  whom: string;
  deadlineMs: number;
};

/** `create` is a path below /v1/ whose answer has `auth`, and `body` goes with it. */
export type TokenSource = { create: string; body?: JsonObject };
export type Service = { match: JsonObject; token: TokenSource; relax?: string[] };
export type VaultConfig = {
  address: string;
  ca_file?: string;
  namespace?: string;
  login: { path: string; body?: JsonObject; body_files?: Record<string, string> };
  /** Where containers reach Vault by another name. */
  for_clients?: { address?: string; ca_file?: string };
};
export type Config = {
  /** Both sockets have the defaults of peers.ts and engine.ts. */
  socket?: string;
  engine?: string;
  allow_no_pidfd?: boolean;
  vault: VaultConfig;
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
};

/** The token of one start of a container. `exit` says that its process has gone, or never got it. */
export type Lease = { exit: AbortController; sent: boolean };
/** What a policy can match: what the kernel fixed, what /proc says, what the engine says. */
export type Identity = { peer: Peer; process: Process; container: Container };
