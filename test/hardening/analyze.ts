// Question: does static analysis find anything in the helper?
// Promise:  returns when it does not; an error has the finding.
import { helper, run } from "./build.ts";

/** By gcc, whatever CC says: no other compiler has -fanalyzer. */
export function analyzeByGcc(): void {
  const flags = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-fanalyzer", "-Werror"];
  run("gcc", [...flags, "-c", "-o", "/dev/null", helper], "Debian: apt-get install gcc");
}

/** Everything that clang-tidy has for C, except what does not serve here. */
export function analyzeByClang(): void {
  const checks = [
    ...["clang-analyzer-*", "bugprone-*", "cert-*", "misc-*", "performance-*", "portability-*"],
    // Wants the functions of C11's Annex K, which glibc does not have.
    "-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling",
    // The line before it has compared the lengths.
    "-clang-analyzer-security.insecureAPI.strcpy",
    // _GNU_SOURCE is how glibc is asked for accept4(2); feature_test_macros(7).
    ...["-bugprone-reserved-identifier", "-cert-dcl37-c", "-cert-dcl51-cpp"],
    // A descriptor and a pid are both integers in C.
    "-bugprone-easily-swappable-parameters",
    // snprintf(3) into a buffer that holds the longest groups and label; sscanf(3) of the server's
    // own numbers, which glibc saturates.
    ...["-cert-err33-c", "-cert-err34-c"],
  ];
  const words = [`--checks=-*,${checks.join(",")}`, "--warnings-as-errors=*", "--quiet"];
  run("clang-tidy", [...words, helper, "--", "-std=c17"], "sh scripts/prepare.sh hardening");
}
