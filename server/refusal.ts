// Question: why does a peer get no token? The message is one word of the list in docs/audit.md, the
// cause what was seen and wanted: both for the audit. The peer hears "refused" after a Refusal, and
// "unavailable" after any other error.
export class Refusal extends Error {}

/** Not yet, or not now: the container, the engine or Vault. The client asks again. */
export class Unavailable extends Error {}
