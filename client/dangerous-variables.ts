// Question: which environment variables would act on the client itself?
// Input:    the environment. The image, and whoever starts the container, chose it.
// Users:    the client refuses to hold a token where one of REFUSED is set (inspector.ts). The runtime
//           wrapper renames all of them to AUTHPROXY_SET_…, so that only the application gets them.
//
// This module is pure and imports nothing: the wrapper takes it as it is.

type DangerousVariable = {
  /** The whole name, or a pattern for a family of names. */
  readonly name: string | RegExp;
  /** What the variable does to a process that starts with it, as the end of "it …". */
  readonly effect: string;
};

/** These run code in the client, or write what it holds to a file or a log. */
const REFUSED = [
  { name: "LD_PRELOAD", effect: "loads libraries into the process (ld.so(8))" },
  {
    name: "LD_AUDIT",
    effect: "loads libraries that see each call between libraries (rtld-audit(7))",
  },
  {
    name: "OPENSSL_CONF",
    effect: "lets OpenSSL load the modules that a file names (config(5ssl))",
  },
  { name: "NODE_DEBUG", effect: "logs what Node's modules do, TLS and HTTP included" },
  { name: "NODE_V8_COVERAGE", effect: "writes files about the code that ran" },
] as const satisfies readonly DangerousVariable[];

/** These change how the client runs. Each is harmless enough to start with, but not the client's. */
const SET_ASIDE: readonly DangerousVariable[] = [
  // The loader and the C library.
  { name: /^LD_/, effect: "changes which libraries the loader takes, and from where (ld.so(8))" },
  { name: /^GLIBC_/, effect: "tunes the loader and the C library (GLIBC_TUNABLES)" },
  { name: /^MALLOC_/, effect: "changes the allocator (mallopt(3))" },
  { name: "GCONV_PATH", effect: "loads libraries that convert between character sets (iconv(3))" },
  { name: "LOCPATH", effect: "reads locales from another directory (setlocale(3))" },
  // The C library's resolver: it decides which address belongs to Vault's name.
  { name: "HOSTALIASES", effect: "reads other names for hosts from a file (hostname(7))" },
  { name: "LOCALDOMAIN", effect: "changes the domains that are searched (resolver(5))" },
  { name: /^RES_\w+$/, effect: "changes how names are looked up (RES_OPTIONS in resolver(5))" },
  // Node, and the libraries in it.
  {
    name: /^NODE_/,
    effect: "changes how Node starts, what it trusts and what it writes (node(1))",
  },
  { name: /^OPENSSL_/, effect: "changes OpenSSL's configuration and modules (openssl-env(7))" },
  { name: /^SSL_/, effect: "changes which CAs OpenSSL trusts (SSL_CERT_FILE, SSL_CERT_DIR)" },
  { name: /^UV_/, effect: "changes libuv's threads and its use of io_uring" },
];

/**
 * Options in NODE_OPTIONS that do the same as REFUSED; each also stands for longer options that begin
 * with it. The inspector's options are not here: inspector.ts asks whether an inspector is open.
 */
const REFUSED_NODE_OPTIONS: readonly { readonly option: string; readonly effect: string }[] = [
  { option: "-r", effect: "runs a script" },
  { option: "--require", effect: "runs a script" },
  { option: "--import", effect: "runs a module" },
  { option: "--loader", effect: "runs a module that changes what is imported" },
  { option: "--experimental-loader", effect: "runs a module that changes what is imported" },
  { option: "--openssl-config", effect: "lets OpenSSL load the modules that a file names" },
  { option: "--env-file", effect: "sets variables from a file, NODE_OPTIONS included" },
  { option: "--experimental-config", effect: "takes further options from a file" },
  { option: "--trace-tls", effect: "prints what passes through TLS" },
  { option: "--tls-keylog", effect: "writes the keys of TLS connections to a file" },
  { option: "--heap", effect: "writes the memory, or a profile of it, to a file" },
  { option: "--cpu-prof", effect: "writes a profile to a file" },
  { option: "--prof", effect: "writes a profile to a file" },
  { option: "--report", effect: "writes the environment, or a report of the process, to a file" },
  { option: "--redirect-warnings", effect: "writes to a file" },
  { option: "--abort-on", effect: "dumps the memory to a file where the process fails" },
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
  return [...REFUSED, ...SET_ASIDE].some((variable: DangerousVariable) =>
    typeof variable.name === "string" ? variable.name === name : variable.name.test(name),
  );
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
  for (const { option, effect } of REFUSED_NODE_OPTIONS) {
    if (words.some((word) => word.startsWith(option))) {
      return { name: "NODE_OPTIONS", reason: `${option} ${effect}` };
    }
  }
  for (const { name, effect } of REFUSED) {
    if (environment[name]) return { name, reason: `${name} ${effect}` };
  }
  return undefined;
}
