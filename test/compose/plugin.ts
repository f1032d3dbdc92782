// Question: how do tests have Compose, where the machine has none?
// Output:   a program as `docker-compose`, also found by the docker command in a DOCKER_CONFIG.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fetchTree } from "../../scripts/debian.ts";
import { stage } from "./host.ts";

/** Debian's, by its own loader and libraries: it is of a newer release than this machine may be. */
export async function compose(): Promise<{ program: string; DOCKER_CONFIG: string }> {
  const { path } = await fetchTree("trixie", ["docker-compose"]);
  const DOCKER_CONFIG = join(stage.directory, "docker");
  const program = join(DOCKER_CONFIG, "cli-plugins/docker-compose");
  mkdirSync(join(DOCKER_CONFIG, "cli-plugins"), { recursive: true });
  const start = `"${path}/lib64/ld-linux-x86-64.so.2" --library-path "${path}/lib/x86_64-linux-gnu"`;
  const real = `"${path}/usr/libexec/docker/cli-plugins/docker-compose"`;
  writeFileSync(program, `#!/bin/sh\nexec ${start} ${real} "$@"\n`, { mode: 0o755 });
  return { program, DOCKER_CONFIG };
}
