// Question: whom does nginx serve that is configured as docs/certificates.md has it?
// Input:    Debian's nginx; the files that a container got by the same page's variables, from a PKI of a
//           real OpenBao, through the real server.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import { parse } from "yaml";
import { fetchTree } from "../../scripts/debian.ts";
import { client, freePort, provision } from "../../scripts/openbao.ts";
import { admit, mountPki, nameOf } from "../certificates-pki.ts";
import { block } from "../documents.ts";
import { app, bao, Stage, until } from "../stage.ts";

const stage = new Stage();
afterAll(() => stage[Symbol.asyncDispose]());
const ca = await mountPki(bao);
const vault = client(bao);
await provision(bao, { services: { app: {}, timeline: {}, reader: {} } });
for (const service of ["timeline", "reader"]) await admit(bao, service);

type Pair = { cert: string; key: string; serial: string };
async function issue(path: string): Promise<Pair> {
  const { data } = await vault.write(path, { common_name: nameOf("reader"), ttl: "5m" });
  return { cert: data.certificate, key: data.private_key, serial: data.serial_number };
}
const reader = await issue("pki/issue/reader");
const revoked = await issue("pki/issue/reader");
await vault.write("pki/revoke", { serial_number: revoked.serial });
await vault.write("pki-root/roles/any", { allow_any_name: true, key_type: "ec" });
const ofRoot = await issue("pki-root/issue/any");

/** The files of a container that has the page's variables. */
async function files(): Promise<string> {
  const Labels = { app: "timeline" };
  const match = { ...app.match, container: { Config: { Labels } } };
  await stage.server({
    services: { timeline: { match, token: { create: "auth/token/create/timeline" } } },
  });
  const shown = block("docs/certificates.md", "AUTHPROXY_ON_CHANGE: SIGHUP");
  const container = await stage.container({
    labels: Labels,
    environment: { DB_PASSWORD_FILE: "", ...parse(shown.replaceAll("$$", "$")) },
    command: ["sh", "-c", "echo begun; exec sleep 600"],
  });
  await container.says("begun\n");
  const place = join(stage.directory, "files");
  mkdirSync(place, { mode: 0o700 });
  for (const name of ["KEY", "CERTIFICATE", "CA", "CRL"]) {
    const { output } = await container.exec("cat", `/run/authproxy-secrets/${name}`);
    writeFileSync(join(place, name), output, { mode: 0o600 });
  }
  return place;
}

/** nginx by its own loader's paths, where the files are and nothing else of this machine's /run. */
async function serve(): Promise<number> {
  const { path } = await fetchTree("bookworm", ["nginx-light"]);
  const port = await freePort();
  const bodies = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const configuration = `
    daemon off; user root; pid /run/pid; error_log stderr;
    events {}
    http {
      access_log off;
      ${bodies.map((kind) => `${kind}_temp_path /run/${kind};`).join("\n")}
      server {
        listen 127.0.0.1:${port} ssl;
        location / { return 200 "hello $ssl_client_s_dn of $ssl_client_i_dn"; }
        ${block("docs/certificates.md", "ssl_certificate_key")}
      }
    }`;
  const file = join(stage.directory, "nginx.conf");
  writeFileSync(file, configuration);
  const script = `mount -t tmpfs none /run; mkdir /run/authproxy-secrets
    mount --bind "$1" /run/authproxy-secrets; mount --bind "$2/usr" /usr
    exec /usr/sbin/nginx -e stderr -c "$3"`;
  const words = ["--mount", "--propagation", "private", "sh", "-ec", script, "sh"];
  const child = spawn("unshare", [...words, await files(), path, file]);
  stage.defer(() => child.kill("SIGTERM"));
  const said = text(child.stderr);
  await until("nginx answers", async () => {
    if (child.exitCode !== null) throw new Error(await said);
    return (await visit(port).catch(() => 0)) !== 0;
  });
  return port;
}

async function visit(port: number, pair: Partial<Pair> = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const options = { host: "127.0.0.1", port, servername: nameOf("timeline"), ca, ...pair };
  request(options, async (answer) => resolve(`${answer.statusCode} ${await text(answer)}`))
    .on("error", reject)
    .end();
  return await promise;
}

test("whose certificate is of the chain and not on its lists, by its own of this start", async () => {
  const port = await serve();
  const hello = `200 hello CN=${nameOf("reader")}`;
  expect(await visit(port, reader)).toBe(`${hello} of CN=production`);
  expect(await visit(port)).toContain("No required SSL certificate was sent");
  expect(await visit(port, revoked)).toContain("The SSL certificate error");
  // Said there: the root's own are served as well, and who issued is known.
  expect(await visit(port, ofRoot)).toBe(`${hello} of CN=root`);
});
