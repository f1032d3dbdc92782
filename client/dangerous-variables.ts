// Question: which environment variables would act on the client itself?
// Input:    the environment. The image, and whoever starts the container, chose it.
// Users:    the client refuses to hold a token where one of REFUSED is set (inspector.ts). The runtime
//           wrapper renames all of them to AUTHPROXY_SET_…, so that only the application gets them.
//
// This module is pure and imports nothing: the wrapper takes it as it is.

/**
 * These variables run code in the client, or write what it holds to a file or a log. Each stands with
 * what it does to a process that starts with it.
 */
const REFUSED: Readonly<Record<string, string>> = {
  LD_PRELOAD: "loads libraries into the process (ld.so(8))",
  LD_AUDIT: "loads libraries that see each call between libraries (rtld-audit(7))",
  OPENSSL_CONF: "lets OpenSSL load the modules that a file names (config(5ssl))",
  NODE_DEBUG: "logs what Node's modules do, TLS and HTTP included",
  NODE_V8_COVERAGE: "writes files about the code that ran",
};

/**
 * Options in NODE_OPTIONS that do the same as REFUSED; each also stands for longer options that begin
 * with it. The inspector's options are not here: inspector.ts asks whether an inspector is open.
 */
const REFUSED_NODE_OPTIONS: Readonly<Record<string, string>> = {
  "-r": "runs a script",
  "--require": "runs a script",
  "--import": "runs a module",
  "--loader": "runs a module that changes what is imported",
  "--experimental-loader": "runs a module that changes what is imported",
  "--openssl-config": "lets OpenSSL load the modules that a file names",
  "--env-file": "sets variables from a file, NODE_OPTIONS included",
  "--experimental-config": "takes further options from a file",
  "--trace-tls": "prints what passes through TLS",
  "--tls-keylog": "writes the keys of TLS connections to a file",
  "--heap": "writes the memory, or a profile of it, to a file",
  "--cpu-prof": "writes a profile to a file",
  "--prof": "writes a profile to a file",
  "--report": "writes the environment, or a report of the process, to a file",
  "--redirect-warnings": "writes to a file",
  "--abort-on": "dumps the memory to a file where the process fails",
};

/**
 * All variables that act on the client, by name or by family, with what they do to it. Those that are
 * not in REFUSED are harmless enough to start with, but are not meant for the client.
 */
const ACTING: readonly (readonly [name: RegExp, effect: string])[] = [
  // The loader and the C library.
  [/^LD_/, "changes which libraries the loader takes, and from where (ld.so(8))"],
  [/^GLIBC_/, "tunes the loader and the C library (GLIBC_TUNABLES)"],
  [/^MALLOC_/, "changes the allocator (mallopt(3))"],
  [/^GCONV_PATH$/, "loads libraries that convert between character sets (iconv(3))"],
  [/^LOCPATH$/, "reads locales from another directory (setlocale(3))"],
  // The C library's resolver: it decides which address belongs to Vault's name.
  [/^HOSTALIASES$/, "reads other names for hosts from a file (hostname(7))"],
  [/^LOCALDOMAIN$/, "changes the domains that are searched (resolver(5))"],
  [/^RES_\w+$/, "changes how names are looked up (RES_OPTIONS in resolver(5))"],
  // Node, and the libraries in it.
  [/^NODE_/, "changes how Node starts, what it trusts and what it writes (node(1))"],
  [/^OPENSSL_/, "changes OpenSSL's configuration and modules (openssl-env(7))"],
  [/^SSL_/, "changes which CAs OpenSSL trusts (SSL_CERT_FILE, SSL_CERT_DIR)"],
  [/^UV_/, "changes libuv's threads and its use of io_uring"],
];

export type Refusal = {
  /** The variable's name. */
  readonly name: string;
  /** The variable, or the option in it, and what it does: "LD_PRELOAD loads …". */
  readonly reason: string;
};

/**
 * Says whether a variable of this name would act on the client's loader, Node or resolver. The answer
 * does not depend on the variable's value.
 */
export function actsOnClient(name: string): boolean {
  return ACTING.some(([pattern]) => pattern.test(name));
}

/**
 * Returns the first variable of this environment with which the client must not hold a token, or
 * undefined where there is none. An empty variable has no effect, and is not refused.
 */
export function findRefusedVariable(
  environment: Readonly<Record<string, string | undefined>>,
): Refusal | undefined {
  // Node separates the options by white space, and takes quotation marks around them.
  const words = environment.NODE_OPTIONS?.split(/[\s"]/) ?? [];
  for (const [option, effect] of Object.entries(REFUSED_NODE_OPTIONS)) {
    if (words.some((word) => word.startsWith(option))) {
      return { name: "NODE_OPTIONS", reason: `${option} ${effect}` };
    }
  }
  for (const [name, effect] of Object.entries(REFUSED)) {
    if (environment[name]) return { name, reason: `${name} ${effect}` };
  }
  return undefined;
}
