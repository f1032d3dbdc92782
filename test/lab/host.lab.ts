// Question: does what README and docs/operate.md say hold on a bare host, in a real systemd?
// A stranger's way: their code blocks, in their order, and nothing else, from the archive to a
// container that has its secret, through every day, to the end. In between, what is claimed of units,
// restarts, upgrades, a reboot; what other pages say to type on a host; and each symptom that is
// listed is brought about.
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetchTree, type Suite } from "../../scripts/debian.ts";
import { baseImage } from "../../scripts/images.ts";
import { client, type OpenBao, startOpenBao } from "../../scripts/openbao.ts";
import { makeArchive } from "../../scripts/package.ts";
import type { JsonObject } from "../../server/json.ts";
import { type Block, block, shell } from "../documents.ts";
import { GATEWAY, Host, makeGateway, PACKAGES, removeGateway } from "./host.ts";
import { CONFIG, inContainers, inJournal, RUN } from "./host-symptoms.ts";

const root = join(import.meta.dirname, "../..");
const manual = readFileSync(join(root, "docs/operate.md"), "utf8");
const archive = await makeArchive();
const STARTED = "started with a password of 13 characters";
/** All but what test/server-image.test.ts runs. */
const blocks = shell("docs/operate.md").filter(({ section }) => section !== "As a container");

/** The symptoms that it lists: the first text in code of each row. */
function symptoms(heading: string): string[] {
  const table = manual.split(`| ${heading} |`)[1]?.split("\n\n")[0] ?? "";
  return [...table.matchAll(/^\| `([^`]+)`/gm)].map(([, symptom = ""]) => symptom);
}

const packages: Record<string, string[]> = {
  bookworm: PACKAGES,
  trixie: [...PACKAGES, "docker-cli"], // there a package of its own
};

describe.each(["trixie", "bookworm"] as Suite[])("a bare host, Debian %s", (suite) => {
  let host: Host;
  let bao: OpenBao;
  let environment: Record<string, string>;
  const walked: Block[] = [];

  beforeAll(async () => {
    makeGateway();
    bao = await startOpenBao({ listen: GATEWAY });
    const vault = { BAO_ADDR: bao.address, BAO_TOKEN: bao.rootToken };
    environment = { ...vault, BAO_CACERT: "/mnt/vault-ca.pem" };
    host = new Host(await fetchTree(suite, packages[suite] ?? []));
    host.provide(join(root, "dist/bao"));
    await host.boot();
    for (const file of [archive.file, bao.caFile, join(import.meta.dirname, "host-knocks.ts")])
      copyFileSync(file, join(host.share, basename(file)));
    const base = baseImage(); // in place of the registry's
    execFileSync("docker", ["save", "--output", join(host.share, "base.tar"), base]);
    await host.sh(`docker load --quiet --input /mnt/base.tar; docker tag ${base} node:24-slim`);
  }, 300_000);

  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await bao.stop();
    removeGateway();
  });

  async function walk(section: string, directory = "/mnt"): Promise<string> {
    let output = "";
    for (const block of blocks.filter((block) => block.section === section)) {
      output += await host.sh(`cd ${directory}\n${block.text}`, environment);
      walked.push(block);
    }
    expect(walked.some((block) => block.section === section)).toBe(true);
    return output;
  }

  async function until(what: string): Promise<void> {
    await host.sh(`left=300
      until ${what}; do
        left=$((left - 1))
        [ $left -gt 0 ] || { journalctl --unit authproxy --output cat --lines 20; exit 1; }
        sleep 0.1
      done`);
  }

  /** Runs this, and waits until the server has said that once more. */
  async function provoke(script: string, text: string): Promise<void> {
    const journal = "journalctl --unit authproxy --output cat";
    const count = `${journal} | grep --count --fixed-strings -- ${JSON.stringify(text)}`;
    const before = Number(await host.sh(`${count} || true`));
    await host.sh(script);
    await until(`[ "$(${count})" -gt ${before} ]`);
  }

  async function grants(): Promise<JsonObject[]> {
    const granted = `journalctl --unit authproxy --output cat | grep '"event":"granted"'`;
    const lines = (await host.sh(granted)).trim().split("\n");
    return lines.map((line) => JSON.parse(line));
  }

  /** Runs this while somebody knocks, who can connect each time. "unavailable", and an end without
   * a line, mean: ask again (docs/protocol.md), and clients do. */
  async function underLoad(script: string): Promise<void> {
    const node = "$(readlink -f /opt/authproxy/current)/bin/node";
    await host.sh(`systemd-run --quiet --unit knocks ${node} /mnt/host-knocks.ts /mnt/knocks.json`);
    await host.sh(script);
    await host.sh("systemctl stop knocks");
    const seen: Record<string, number> = JSON.parse(
      readFileSync(join(host.share, "knocks.json"), "utf8"),
    );
    // It is judged less and less often: in between it hears "unavailable".
    const { refused = 0, unavailable = 0 } = seen;
    expect(refused).toBeGreaterThan(0);
    expect(refused + unavailable).toBeGreaterThan(5);
    const others = ["refused", "unavailable", "no line"];
    expect(Object.keys(seen).filter((outcome) => !others.includes(outcome))).toEqual([]);
  }

  /** Starts containers, one after the other, as long as that goes on; all get their secret. */
  const whileStarting = (script: string) => `
    names='load1 load2 load3 load4 load5 load6 load7 load8'
    for name in $names; do
      ${RUN} --detach --name $name -e AUTHPROXY_WAIT=30 -l app=timeline timeline
    done &
    ${script}
    wait
    for name in $names; do
      until docker logs $name 2>&1 | grep --quiet '${STARTED}'; do
        docker inspect --format '{{.State.Running}}' $name | grep --quiet true
        sleep 0.1
      done
    done
    docker rm --force $names`;

  test("a stranger comes from the archive to a container with its secret", async () => {
    const installs = block("README.md", "/install");
    expect(await host.sh(`cd /mnt\n${installs}`)).toMatch(/is installed \(Node v24\./);
    expect(await walk("What a host needs", "/mnt/authproxy-0.1.0")).toBe("ready pidfd\n");
    await walk("Install");
    await walk("The server's credential");
    expect(await walk("The configuration")).toContain("the server takes it");
    const before = "A container of your own";
    const [build, look] = blocks.filter(({ section }) => section === before);
    if (!build || !look) throw new Error(`two blocks of "${before}"`);
    await host.sh(`cd /mnt\n${build.text}`, environment);
    await until(`docker logs timeline 2>&1 | grep --quiet "${STARTED}"`);
    expect(await host.sh(look.text)).toContain('"event":"granted"');
    walked.push(build, look);
  });

  test("README's own containers get their secrets, on the engine's own network", async () => {
    const vault = client(bao);
    await vault.addPolicy({
      name: "db",
      policy: 'path "secret/data/db" { capabilities = ["read"] }',
    });
    const role = { allowed_policies: "db", orphan: true, token_period: "1h", renewable: true };
    await vault.write("auth/token/roles/db", role);
    await vault.write("secret/data/db", { data: { password: "correct-horse" } });
    const { data } = await vault.read("sys/policies/acl/authproxy-web1");
    const policy = `${data.policy}\npath "auth/token/create/db" { capabilities = ["update"] }`;
    await vault.addPolicy({ name: "authproxy-web1", policy });

    const config = JSON.parse(await host.sh(`cat ${CONFIG}`));
    const timeline = JSON.parse(`{${block("README.md", '"timeline": {')}}`);
    const db = JSON.parse(JSON.stringify(timeline.timeline).replaceAll("timeline", "db"));
    delete db.match.peer;
    const ours = JSON.stringify({ ...config, services: { ...timeline, db } });
    writeFileSync(join(host.share, "authproxy.json"), ours);
    const reload = (before: string) => provoke(`${before}; systemctl reload authproxy`, '"reload"');
    await reload(`cp -p ${CONFIG} /tmp/usual; cat /mnt/authproxy.json > ${CONFIG}`);
    expect(await host.sh("authproxy check")).toContain("the server takes it");

    const [install = "", uninstall = ""] = block("docs/runtime.md", "--daemon-json FILE").split(
      "\n",
    );
    expect(await host.sh(install)).toContain("has been told, and follows");
    const tells = `const { POSTGRES_PASSWORD_FILE: file } = process.env;
      console.log("started with a password of", fs.readFileSync(file).length, "characters");`;
    const lines = ["FROM node:24-slim", `CMD ${JSON.stringify(["node", "-e", tells])}`];
    writeFileSync(join(host.share, "postgres"), lines.join("\n"));
    await host.sh("docker build --tag postgres - < /mnt/postgres");
    const runs = [
      block("README.md", "docker run --read-only"),
      block("README.md", "docker run --runtime"),
      block("docs/runtime.md", "docker run --runtime"),
    ];
    for (const [i, run] of runs.entries()) {
      await host.sh(`${run.trimEnd()} </dev/null >/mnt/said${i} 2>&1 &`);
      await until(`grep --quiet "${STARTED}" /mnt/said${i}`);
      await host.sh("docker rm --force $(docker ps --all --latest --quiet)");
    }
    expect(await host.sh(uninstall)).toContain("has been told, and follows");
    await reload(`cp -p /tmp/usual ${CONFIG}`);
  });

  test("the journal is counted while it grows", async () => {
    const counts = block("docs/metrics.md", "journalctl");
    writeFileSync(join(host.share, "counts"), counts);
    await host.sh(
      "mkdir -p /var/lib/node_exporter; systemd-run --quiet --unit counts sh /mnt/counts",
    );
    const file = "/var/lib/node_exporter/authproxy.prom";
    await until(`grep --quiet 'granted_total{service="timeline"} [1-9]' ${file}`);
    await host.sh("systemctl stop counts");
  });

  test("the units are as systemd wants them, and hold what the page says", async () => {
    expect(await host.sh("systemd-analyze verify authproxy.socket authproxy.service 2>&1")).toBe(
      "",
    );
    const rated = await host.sh("systemd-analyze security --no-pager authproxy | tail -n 1");
    const [, exposure] = /rates it (\d\.\d), "OK"/.exec(manual) ?? [];
    expect(rated).toContain(`: ${exposure} OK`);
    const pid = (await host.sh("systemctl show --property MainPID --value authproxy")).trim();
    const children = `$(cat /proc/${pid}/task/${pid}/children)`;
    const status = await host.sh(
      `for p in ${pid} ${children}; do grep -hE '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$p/status; done`,
    );
    const ptrace = (1 << 19).toString(16).padStart(16, "0"); // CAP_SYS_PTRACE
    expect(new Set(status.split("\n").filter((line) => line.startsWith("Cap")))).toEqual(
      new Set([
        `CapEff:\t${ptrace}`, // the server's
        `CapEff:\t${"0".repeat(16)}`, // peercred's
        `CapBnd:\t${ptrace}`,
      ]),
    );
    expect(status).not.toMatch(/^Uid:\t0|NoNewPrivs:\t0|Seccomp:\t0/m);
    // Only the configuration can be read, and only by the service's group.
    const files = await host.sh("stat --format '%a %U %G' /etc/authproxy /etc/authproxy/secret_id");
    expect(files).toBe("2750 root authproxy\n600 root authproxy\n");
  });

  test("the first who connects starts the server", async () => {
    await host.sh("systemctl stop authproxy.service");
    expect(await host.sh("systemctl is-active authproxy.service || true")).toBe("inactive\n");
    await underLoad(
      "until systemctl --quiet is-active authproxy.service; do sleep 0.1; done; sleep 1",
    );
  });

  test("it is restarted under load, and nobody is refused", async () => {
    const restarts = "for i in 1 2 3 4 5; do systemctl restart authproxy; sleep 0.5; done";
    await underLoad(whileStarting(restarts));
  });

  test("it is upgraded under load, and nobody is refused", async () => {
    const upgrade = (version: string) => `
      cp -r /mnt/authproxy-0.1.0 /mnt/authproxy-${version}; cd /mnt/authproxy-${version}
      echo ${version} > VERSION; sed -i "s|.*  VERSION$|$(sha256sum VERSION)|" SHA256SUMS
      ./install`;
    await underLoad(whileStarting(upgrade("0.2.0")));
    const running = "systemctl show --property MainPID --value authproxy";
    expect(await host.sh(`readlink /proc/$(${running})/exe`)).toMatch(
      /^\/opt\/authproxy\/0\.2\.0-/,
    );
    await host.sh(upgrade("0.3.0"));
    expect(await host.sh("ls /opt/authproxy")).toMatch(/^0\.2\.0-\w{8}\n0\.3\.0-\w{8}\ncurrent\n$/);
    // Back to the former one.
    await host.sh("/opt/authproxy/0.2.0-*/install");
    expect(await host.sh("readlink /opt/authproxy/current")).toMatch(/^0\.2\.0-/);
    // Run again, it changes nothing.
    await host.sh("/opt/authproxy/current/install");
    expect(await host.sh("ls /opt/authproxy")).toMatch(/^0\.2\.0-\w{8}\n0\.3\.0-\w{8}\ncurrent\n$/);
  });

  test("damaged files are not installed", async () => {
    const damage =
      "cp -r /mnt/authproxy-0.1.0 /mnt/damaged; cd /mnt/damaged; echo >> server/main.js";
    const said = await host.sh(`${damage}; ! ./install 2>&1`);
    expect(said).toContain("files are damaged");
    expect(await host.sh("readlink /opt/authproxy/current")).toMatch(/^0\.2\.0-/);
  });

  test("every day: the token outlives reloads, rotation, restarts and stops", async () => {
    const [first] = await grants();
    await walk("Every day");
    await until("systemctl --quiet is-active authproxy.service");
    // The first secret id is destroyed, and the server has logged in by the new one.
    await host.sh(`${RUN} --rm -l app=timeline timeline true`);
    const vault = client(bao);
    const { data } = await vault.write("auth/token/lookup-accessor", { accessor: first?.accessor });
    expect(data.meta.service).toBe("timeline");
  });

  test("a reload takes a new policy, and a faulty one leaves the old in force", async () => {
    const asOther = `${RUN} --rm -l app=other timeline true`;
    await host.sh(`sed --in-place=.good 's/"app": "timeline"/"app": "other"/' ${CONFIG}`);
    await provoke("systemctl reload authproxy", '"event":"reload"');
    await host.sh(asOther);
    const faulty = `echo not json > ${CONFIG}; ! systemctl reload authproxy 2>&1`;
    expect(await host.sh(faulty)).toContain("Job for authproxy.service failed");
    await host.sh(asOther);
    await host.sh(`mv ${CONFIG}.good ${CONFIG}; systemctl restart authproxy`);
  });

  test("who asks a server that cannot start waits, and is served when it can", async () => {
    await host.sh(
      `cp -p ${CONFIG} /tmp/good; echo not json > ${CONFIG}; systemctl restart authproxy`,
    );
    await host.sh(`${RUN} --detach --name waits -e AUTHPROXY_WAIT=60 -l app=timeline timeline`);
    // More starts than systemd's own limits allow.
    await until("[ $(systemctl show --property NRestarts --value authproxy) -gt 6 ]");
    expect(await host.sh("systemctl is-active authproxy.socket; docker logs waits 2>&1")).toBe(
      "active\n",
    );
    await host.sh(`cp -p /tmp/good ${CONFIG}`);
    await until(`docker logs waits 2>&1 | grep --quiet "${STARTED}"`);
    await host.sh("docker rm --force waits");
  });

  test("a stop leaves the sockets' directory and the leases; who ended meanwhile is revoked", async () => {
    await host.sh(`${RUN} --detach --name ends -l app=timeline timeline`);
    await until(`docker logs ends 2>&1 | grep --quiet "${STARTED}"`);
    const { accessor } = (await grants()).at(-1) ?? {};
    const inode = "stat --format %i /run/authproxy; ls /run/authproxy-state";
    await until(
      `grep --quiet '"stage":"sent"' $(grep --files-with-matches ${accessor} /run/authproxy-state/*)`,
    );
    const before = await host.sh(inode);
    await host.sh("systemctl stop authproxy.socket authproxy.service; docker rm --force ends");
    expect(await host.sh(inode)).toBe(before);
    const start = "systemctl start authproxy.socket authproxy.service";
    await provoke(start, `"accessor":"${accessor}"`);
  });

  test("at boot the socket is there before the engine, and its containers are served", async () => {
    await host.reboot();
    await until(`[ "$(docker logs timeline 2>&1 | grep --count "${STARTED}")" -ge 2 ]`);
    const order = await host.sh(
      "systemctl show --property ActiveEnterTimestampMonotonic --value authproxy.socket authproxy.service docker.service",
    );
    const times = order.split("\n").filter(Boolean).map(Number);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(await host.sh("journalctl --boot | grep -i 'ordering cycle' || true")).toBe("");
  });

  test("each symptom of a container comes from its cause", async () => {
    expect(symptoms("the container's log")).toEqual(Object.keys(inContainers));
    for (const [symptom, cause] of Object.entries(inContainers)) {
      const [, code] = manual.split(`| \`${symptom}\` (`)[1]?.match(/^(\d+)\)/) ?? [];
      const said = await host.sh(`set +e\n(${cause}) 2>&1\necho "exit $?"`);
      expect(said).toContain(symptom);
      expect(said).toContain(`exit ${code}`);
    }
  });

  test("each symptom in the journal comes from its cause", async () => {
    // A kernel without SO_PEERPIDFD is a guest's: engines.lab.ts.
    const here = symptoms("the journal").filter((symptom) => !symptom.includes("SO_PEERPIDFD"));
    expect(here).toEqual(Object.keys(inJournal));
    for (const [symptom, { cause, undo = "" }] of Object.entries(inJournal)) {
      await provoke(`set +e\n(${cause}) >/dev/null 2>&1\ntrue`, symptom);
      await host.sh(`${undo}\nsystemctl restart authproxy`);
    }
  });

  test("the last refusal is explained; at the end nothing is left but the configuration", async () => {
    await walk("Troubleshooting");
    const explains = block("docs/policy.md", "explain --last");
    expect(await host.sh(explains)).toMatch(/refused|unavailable/);
    await walk("Uninstall");
    const named = await host.sh("find /etc /opt /usr/local /run -name '*authproxy*'");
    expect(named.trim().split("\n").sort()).toEqual(["/etc/authproxy", CONFIG]);
    expect(await host.sh("systemctl list-unit-files 'authproxy*' --no-legend || true")).toBe("");
    expect(walked.map(({ text }) => text)).toEqual(blocks.map(({ text }) => text));
  });
});
