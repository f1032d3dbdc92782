// Question: where does a Docker engine come from that is newer than Debian's?
// Input:    moby/go.mod and go.sum, which pin its source, a Go module; Go (go.ts).
// Output:   dockerd, which containerd and runc of Debian's packages serve.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cache } from "../../scripts/npm.ts";
import { buildGo } from "./go.ts";

const module = join(import.meta.dirname, "moby");
const source = readFileSync(join(module, "go.mod"), "utf8");
const [, tag = ""] = /github\.com\/moby\/moby\/v2 (v\S+)/.exec(source) ?? [];
/** Of which release the tag is, as its own releases/versions.yaml has it. */
const RELEASE = "29.8.0";

/** The path of dockerd; the first call builds it. */
export async function buildDockerd(): Promise<string> {
  const hash = createHash("sha256").update(readFileSync(join(module, "go.sum")));
  const place = join(cache, "lab", `dockerd-${RELEASE}-${hash.digest("hex").slice(0, 16)}`);
  await buildGo(place, {
    module,
    commands: ["github.com/moby/moby/v2/cmd/dockerd"],
    ldflags: `-s -w -X github.com/moby/moby/v2/dockerversion.Version=${RELEASE}`,
    tags: "netgo osusergo nri_no_wasm", // as Docker builds it, with less in it
    go: { minor: 26, suite: "sid" },
    notice: `Docker ${RELEASE} (${tag}): building dockerd (minutes)`,
  });
  return join(place, "dockerd");
}
