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
  cmdline: string[];
  cgroup: string[];
  ppid: number;
  /** Real, effective, saved and file system id. */
  uids: number[];
  gids: number[];
  uid_map: string;
  gid_map: string;
  /** Others of its uid can read its memory and take its descriptors. */
  dumpable: boolean;
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
  Config: { WorkingDir: string; Labels: JsonObject | null };
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
  /** Names this start of the container: kernel facts, no wall clock. */
  start: string;
  /** It has had no token. */
  first: boolean;
  /** The server's own, as /proc/self/ns/user says. */
  user_namespace: string;
  /** The wall clock's time at boot, in milliseconds. */
  bootMs: number;
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
  socket: string;
  state: string;
  engine: string;
  allow_no_pidfd?: boolean;
  vault: VaultConfig;
  services: Record<string, Service>;
};
/** JSON Schema (2020-12), as much of it as config.schema.json uses. */
export type Schema = {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  pattern?: string;
  description?: string;
  anyOf?: Schema[];
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | false;
  minProperties?: number;
  items?: Schema;
  minItems?: number;
};

/** A leaf of a service's `match`: where in the identity document, and what must stand there. */
export type Selector = { path: string[]; wanted: Json };
export type Policy = Map<string, Selector[]>;

/** Vault's `auth`, as far as it is used: a token. Its duration in seconds. */
export type Auth = {
  client_token: string;
  accessor: string;
  lease_duration: number;
  renewable: boolean;
  orphan: boolean;
  policies: string[];
};
export type Vault = ReturnType<typeof import("./vault.ts").connectVault>;

/** One start of one container, and what became of its token. An accessor is no secret: it can end a
 * token, and not use it. */
export type Lease = {
  /** The container's id, and the pid and start of its first process: kernel facts. */
  start: string;
  /** That process has the token: when it exits, this start is over. */
  ofInit: boolean;
  /** For the audit: service, container. */
  about: object;
  accessor: string;
  ttlSeconds: number;
  /** Its process has exited, or never got it: it is to be revoked. */
  ended: boolean;
  /** When to renew or revoke, and when the token dies if nobody does. By Date.now(). */
  dueMs: number;
  deadMs: number;
};
