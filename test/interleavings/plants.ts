// Question: which bugs must the exploration find?
//
// Each is one change of one module, and each has been, or could have been, made.
export type Plant = {
  name: string;
  /** In server/. */
  module: string;
  /** Stands there exactly once. */
  was: string;
  is: string;
};

export const plants: Plant[] = [
  {
    name: "an exit that is read with the answer is not heard",
    module: "peercred.ts",
    was: "exited: isWatched ? this.#exitOf(id) : Promise.resolve() });",
    is: "exited: Promise.resolve().then(() => (isWatched ? this.#exitOf(id) : undefined)) });",
  },
  {
    name: "a mint is not on file before the token is looked at",
    module: "leases.ts",
    was: "    if (wrapped) this.#files.write(lease);\n",
    is: "",
  },
  {
    name: "what was minted and not sent is not revoked",
    module: "leases.ts",
    was: "      void this.#end(lease);\n",
    is: "      this.#living.delete(lease);\n",
  },
  {
    name: "a start is free before the file says that its token was not sent",
    module: "leases.ts",
    was: "      this.#files.write(lease);\n    } finally {",
    is: "      this.#freeStart(lease);\n      this.#files.write(lease);\n    } finally {",
  },
  {
    name: "a lease on file is forgotten at the start",
    module: "leases.ts",
    was: "for (const { invalidReason, ...lease } of leasesOnFile) {",
    is: "for (const { invalidReason, ...lease } of leasesOnFile.slice(1)) {",
  },
  {
    name: "a retry spends `once`",
    module: "leases.ts",
    was: "      void this.#end(lease);\n      this.#freeStart(lease);",
    is: "      void this.#end(lease);",
  },
  {
    name: "a crash while minting spends `once`",
    module: "leases.ts",
    was: "if (!wasPerhapsSent) this.#freeStart(lease);",
    is: "",
  },
  {
    name: "the sending is not on file before the token is sent",
    module: "leases.ts",
    was: '    lease.stage = "sending";\n    this.#files.write(lease);',
    is: '    lease.stage = "sending";',
  },
  {
    name: "what was sent is not noted",
    module: "leases.ts",
    was: '    lease.stage = "sent";\n',
    is: "",
  },
  {
    name: "`once` ends with the token, not with the start",
    module: "leases.ts",
    was: "if (this.#mustOutliveItsToken(lease)) await",
    is: "if (isInVain(lease) && this.#mustOutliveItsToken(lease)) await",
  },
  {
    name: "another process of the start replaces a token",
    module: "leases.ts",
    was: "const isOfHolder = lease.pid === pid && lease.ticks === ticks;",
    is: "const isOfHolder = lease.pid === pid || lease.ticks !== ticks;",
  },
  {
    name: "a process whose number was used again replaces a token that is being sent",
    module: "leases.ts",
    was: 'lease.stage === "sending" && this.#takenUp.has(lease);',
    is: 'lease.stage === "sending";',
  },
  {
    name: "a number that was given to another process counts as the same one",
    module: "leases.ts",
    was: "      if (!isRunning(pid, ticks)) return;\n",
    is: "      if (!isRunning(pid, ticks) && !watched) return;\n",
  },
  {
    name: "a request whose process has died spends the start of the next process with its number",
    module: "leases.ts",
    was: 'const mayPass = first.stage !== "sent" && !this.#takenUp.has(first);',
    is: "const mayPass = false;",
  },
  {
    name: "a fourth token is made in vain",
    module: "leases.ts",
    was: "return leases.filter(isInVain).length >= IN_VAIN_MAX",
    is: "return leases.filter(isInVain).length > IN_VAIN_MAX",
  },
  {
    name: "a revocation is tried once",
    module: "vault.ts",
    was: "if (end || performance.now() > diesAtMs) return",
    is: "if (end || pauseMs) return",
  },
  {
    name: "a renewal that failed is the last one",
    module: "leases.ts",
    was: "renewalDelayMs(ttlSeconds ?? (lease.ttl ?? 0) / 10));",
    is: "ttlSeconds ? renewalDelayMs(ttlSeconds) : Infinity);",
  },
  {
    name: "there is no second look",
    module: "grant.ts",
    was: "    requireUnchanged(facts.process, processNow);\n",
    is: "",
  },
  {
    name: "the owner of the pid namespace is not asked for again",
    module: "grant.ts",
    was: "const userNamespace = await findUserNamespace(facts.process, facts.container, server);",
    is: "const { userNamespace } = facts;",
  },
  {
    name: "the audit line is not waited for",
    module: "grant.ts",
    was: 'await record("granted", { ...request.auditEntry(server), accessor, shared: !accessor });',
    is: 'record("granted", { ...request.auditEntry(server), accessor, shared: !accessor }).catch(() => {});',
  },
  {
    name: "a token of a wrong role is sent",
    module: "vault.ts",
    was: "if (token && accessor && orphan && ours.length === 0)",
    is: "if (token && accessor && ours.length === 0)",
  },
  {
    name: "a place is kept after a refusal",
    module: "requests.ts",
    was: "this.#turns.leave(key, gotToken);",
    is: "if (gotToken) this.#turns.leave(key, gotToken);",
  },
  {
    name: "an engine that was away stays away",
    module: "engine.ts",
    was: "this.#negotiate().catch((error) => {\n      this.#version = undefined;",
    is: "this.#negotiate().catch((error) => {",
  },
];
