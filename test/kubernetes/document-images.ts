// Question: which images does docs/kubernetes.md name?
// Output:   images of this machine's Docker that stand for them: an application without Node and the
//           client, the same with the client in front, and what containerd makes a sandbox of.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { baseImage } from "../../scripts/images.ts";
import { busybox } from "../busybox.ts";
import { compile } from "../programs.ts";

const root = join(import.meta.dirname, "../..");

/** In the image that nobody changed. */
const APP = `#!/bin/sh
read -r password < "$DB_PASSWORD_FILE"
echo "started with a password of \${#password} characters"
exec sleep 100000
`;
/** In the image that has the client in front. */
const OWN_APP = `
  const { DB_PASSWORD, DB_PASSWORD_FILE: file } = process.env;
  const password = DB_PASSWORD ?? require("node:fs").readFileSync(file, "utf8");
  console.log("started with a password of", password.length, "characters");
  setInterval(() => {}, 60000);`;

export const images = {
  unchanged: "registry.example/timeline:1.4",
  withClient: "registry.example/timeline-with-client:1.4",
  pause: "registry.k8s.io/pause:3.8", // which Debian's containerd asks for
};

export function makeImages(): void {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-images-"));
  const build = (name: string, dockerfile: string) => {
    writeFileSync(join(directory, "Dockerfile"), dockerfile);
    execFileSync("docker", ["build", "--quiet", "--tag", name, directory]);
  };
  try {
    mkdirSync(join(directory, "bin"));
    copyFileSync(busybox(), join(directory, "bin/sh"));
    copyFileSync(compile("pause", join(import.meta.dirname, "programs")), join(directory, "pause"));
    writeFileSync(join(directory, "bin/app"), APP, { mode: 0o755 });
    build(images.unchanged, "FROM scratch\nCOPY bin /bin\nENV PATH=/bin\nUSER 1001:1001\n");
    build(images.pause, 'FROM scratch\nCOPY pause /\nENTRYPOINT ["/pause"]\n');

    const words = ["--file", "Dockerfile.example", "--build-arg", `BASE=${baseImage()}`];
    const client = "authproxy-test-document";
    execFileSync("docker", ["build", "--quiet", "--tag", client, ...words, "."], { cwd: root });
    const command = JSON.stringify(["node", "-e", OWN_APP]);
    build(images.withClient, `FROM ${client}\nCMD ${command}\n`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
