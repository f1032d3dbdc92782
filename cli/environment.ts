// Question: which variables of a container's environment does a suggested policy name? Input: the
// container's, and those that its image declares. Pure. Guaranteed: no value that was given at the
// container's start, but references and the client's own options, which are not secrets.
import { MalformedReference, parseValue } from "../client/reference.ts";
import type { Json, JsonObject } from "../server/json.ts";

/** With these a program runs other code than its own, or believes other servers. The list cannot be
 * complete: each program may have variables of its own, so `check` says that others are free. */
export const CODE_VARIABLES = [
  // The loader and the C library.
  ...["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH"],
  ...["HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"],
  // OpenSSL, and what most HTTP libraries read.
  ...["OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ...["SSLKEYLOGFILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"],
  ...["http_proxy", "https_proxy", "all_proxy"],
  // Shells and interpreters.
  ...["PATH", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4"],
  ...["NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED"],
  ...["NODE_DEBUG", "NODE_V8_COVERAGE"],
  ...["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONUSERBASE"],
  ...["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTS", "CLASSPATH"],
  ...["PERL5OPT", "PERL5LIB", "PERL5DB", "PERLLIB", "RUBYOPT", "RUBYLIB", "GEM_PATH", "GEM_HOME"],
  ...["BUNDLE_GEMFILE", "PHPRC", "PHP_INI_SCAN_DIR", "LUA_INIT", "LUA_PATH", "LUA_CPATH"],
  ...["DOTNET_STARTUP_HOOKS", "CORECLR_ENABLE_PROFILING", "CORECLR_PROFILER_PATH"],
];
/** By the client's AUTHPROXY_SET_X these reach the application alone. */
const SET_VARIABLES = ["LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS"].map(
  (name) => `AUTHPROXY_SET_${name}`,
);

/** The client's options. AUTHPROXY_SET_X has a value of the application's. */
const CLIENT_OPTION = /^AUTHPROXY_(?!SET_)[A-Z_]+$/;
/** It names variables that are the application's own text, whatever they look like. */
const PLAIN = "AUTHPROXY_PLAIN=";

export type Environment = {
  /** For `Config.Env` of a policy: null where there must be no such variable. "*" is every other one. */
  variables: JsonObject;
  /** The names of those whose values may be secrets, so that the policy leaves them out. */
  withheld: string[];
};

/** `env` is the engine's list. Where a value is withheld, its variable is one that the policy does not
 * name: then it cannot say that there is no other, and names those that make programs run other code. */
export function environmentOf(env: string[], imageEnv: string[]): Environment {
  const names = [...CODE_VARIABLES, ...SET_VARIABLES];
  const variables = new Map<string, Json>(names.map((name) => [name, null]));
  const withheld: string[] = [];
  const plain = env.find((variable) => variable.startsWith(PLAIN)) ?? PLAIN;
  const plainNames = plain.slice(PLAIN.length).split(",");
  for (const variable of env) {
    const [name = ""] = variable.split("=", 1);
    const value = variable.slice(name.length + 1);
    const isHarmless =
      CLIENT_OPTION.test(name) || (!plainNames.includes(name) && isBareReference(value));
    // CRI lists what a pod overrides twice: a policy can want no value of that (server/policy.ts).
    const isTwice = env.filter((other) => other.startsWith(`${name}=`)).length > 1;
    const isShown = !isTwice && (imageEnv.includes(variable) || isHarmless);
    if (isShown) variables.set(name, value);
    else {
      variables.delete(name);
      if (!withheld.includes(name)) withheld.push(name);
    }
  }
  if (withheld.length === 0) {
    for (const name of names) if (variables.get(name) === null) variables.delete(name);
    variables.set("*", null);
  }
  const sorted = [...variables].sort(([a], [b]) => (a < b ? -1 : 1));
  return { variables: Object.fromEntries(sorted), withheld };
}

/** Says whether the value is a reference and nothing else: a default, a body and text around it may
 * be secrets. So may a key with "?" before it, if the key of a default was forgotten. */
function isBareReference(value: string): boolean {
  try {
    const [reference, ...others] = parseValue(value) ?? [];
    if (typeof reference !== "object" || others.length > 0) return false;
    if (reference.kind !== "read") return reference.kind === "login";
    return !reference.otherwise && !reference.key.startsWith("?");
  } catch (error) {
    if (error instanceof MalformedReference) return false;
    throw error;
  }
}
