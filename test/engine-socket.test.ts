// Question: at whose socket does a server ask what a container is? An engine of another user would say
// what that user likes: a root server takes none that a user owns, or could put there (spire#7293).
// Siblings: the socket's owner, a directory's, a link's, a sticky directory, a socket or directories that
// do not exist yet, a node's engine (`cri`), a server that is root without root's powers, a server of
// the engine's own user and of another one.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig } from "../server/config.ts";

const main = join(import.meta.dirname, "../server/main.ts");
const usual = readFileSync(join(import.meta.dirname, "fixtures/config/valid/usual.json"), "utf8");
const USER = 54321;
const OTHER = 54322;

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "authproxy-engine-socket-"));
  chmodSync(directory, 0o755);
  file = join(directory, "authproxy.json");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** The configuration of a server that asks this engine. */
function configure(engine: string | { cri: string }): string {
  const certificate = join(directory, "ca.pem");
  writeFileSync(certificate, "-----BEGIN CERTIFICATE-----");
  const { vault, services, ...others } = JSON.parse(usual);
  if (typeof engine === "object")
    services.app.match = { pod: { namespace: "app", container: "app" } };
  const config = { ...others, engine, services, vault: { ...vault, ca_file: certificate } };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

function problemWith(engine: string | { cri: string }): string | undefined {
  try {
    loadConfig(configure(engine));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A directory with this mode and owner; its name says which. */
function directoryOf(name: string, uid: number, mode = 0o755): string {
  const path = join(directory, name);
  mkdirSync(path);
  chownSync(path, uid, uid);
  chmodSync(path, mode);
  return path;
}

/** A socket. Node removes the name that it listened on when the listener is closed, so it has a second. */
async function socketIn(place: string, uid = 0): Promise<string> {
  const path = join(place, "engine.sock");
  const server = createServer().listen(`${path}.first`);
  await once(server, "listening");
  spawnSync("ln", [`${path}.first`, path]);
  chownSync(path, uid, uid);
  server.close();
  return path;
}

/** As the server is started: what it says, and how it ends. */
function check(engine: string, ...as: string[]) {
  const words = [...as, process.execPath, main, "--check", "--config", configure(engine)];
  const { status, stderr } = spawnSync("setpriv", words, { encoding: "utf8" });
  return { status, stderr };
}
const as = (uid: number) => ["--reuid", `${uid}`, "--regid", `${uid}`, "--clear-groups"];

test("root's server takes the socket of root's engine, by a link and in any form", async () => {
  const socket = await socketIn(directoryOf("run", 0));
  symlinkSync("run", join(directory, "link"));
  expect(problemWith(socket)).toBeUndefined();
  expect(problemWith({ cri: socket })).toBeUndefined();
  expect(problemWith(join(directory, "link/engine.sock"))).toBeUndefined();
});

test("root's server starts before root's engine has made its socket, or its directory", () => {
  const place = directoryOf("run", 0);
  expect(problemWith(join(place, "engine.sock"))).toBeUndefined();
  expect(problemWith(join(place, "docker/engine.sock"))).toBeUndefined();
});

test("root's server refuses a user's socket, and says whose it is", async () => {
  const socket = await socketIn(directoryOf("run", 0), USER);
  const problem = `engine: ${socket}: belongs to uid ${USER}, must belong to root or the server's user, or others say what each container is`;
  expect(problemWith(socket)).toBe(problem);
  expect(problemWith({ cri: socket })).toBe(problem);
  const { status, stderr } = check(socket);
  expect({ status, stderr }).toEqual({ status: 1, stderr: `authproxy: error: ${problem}\n` });
});

test.each(["root's socket", "no socket yet", "no directory yet"])(
  "root's server refuses a user's directory with %s, by a link too",
  async (what) => {
    const place = directoryOf("1000", USER, 0o700);
    if (what === "root's socket") await socketIn(place);
    symlinkSync("1000", join(directory, "link"));
    const below = what === "no directory yet" ? "podman/engine.sock" : "engine.sock";
    for (const path of ["1000", "link"])
      expect(problemWith(join(directory, path, below))).toContain(
        `engine: ${place}: belongs to uid ${USER}`,
      );
  },
);

test("root's server refuses a link that a user could turn", async () => {
  const socket = await socketIn(directoryOf("run", 0));
  const place = directoryOf("1000", USER);
  symlinkSync(socket, join(place, "link"));
  expect(problemWith(join(place, "link"))).toContain(`engine: ${place}: belongs to uid ${USER}`);
});

test("in a sticky directory root's server takes root's socket, not one that anybody may make", async () => {
  const place = directoryOf("tmp", 0, 0o1777);
  const others = `engine: ${place}: others can write it`;
  expect(problemWith(join(place, "engine.sock"))).toContain(others);
  const socket = await socketIn(place);
  expect(problemWith(socket)).toBeUndefined();
  chownSync(socket, USER, USER);
  expect(problemWith(socket)).toContain(others);
});

test("root without root's powers refuses a user's directory that it cannot enter", () => {
  const place = directoryOf("1000", USER, 0o700);
  const powerless = ["--bounding-set=-all", "--inh-caps=-all"];
  const { status, stderr } = check(join(place, "podman/engine.sock"), ...powerless);
  expect(stderr).toContain(`engine: ${place}: belongs to uid ${USER}`);
  expect(status).toBe(1);
});

test("a user's server takes root's engine and that user's own, and no other user's", async () => {
  const own = await socketIn(directoryOf("own", USER, 0o700), USER);
  const foreign = await socketIn(directoryOf("foreign", OTHER), OTHER);
  const ofRoot = await socketIn(directoryOf("run", 0));
  configure(own);
  chownSync(file, USER, USER);
  for (const socket of [own, ofRoot])
    expect(check(socket, ...as(USER))).toEqual({ status: 0, stderr: "" });
  const { status, stderr } = check(foreign, ...as(USER));
  expect(stderr).toContain(`foreign: belongs to uid ${OTHER}`);
  expect(status).toBe(1);
});
