// Question: why does a peer get no token? The message is one word of the list in docs/audit.md, the
// cause what was seen and wanted. Both go to the audit; the peer hears "refused" or "unavailable".
export class Refusal extends Error {}

/** Not now: the container, the engine or Vault is not ready. Asked again until the deadline. */
export class Unavailable extends Refusal {}
