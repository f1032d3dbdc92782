// Question: is the helper's own suite free of errors that only a sanitizer sees?
// All of ../peercred.test.ts, with the same source in a build that ends at the first such error.
import { build, helper, sanitizers } from "./build.ts";

process.env.AUTHPROXY_PEERCRED = build("peercred", [helper], sanitizers);
await import("../peercred.test.ts");
