// Question: does `authproxy metrics` count the server's audit stream, in a form that Prometheus
// reads, and with few series whatever the lines say?
import { once } from "node:events";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { COUNTED_EVENTS, Counter } from "../cli/metrics/count.ts";
import { exposition, type Labels } from "../cli/metrics/exposition.ts";
import { REASONS } from "../cli/reasons.ts";
import { addLine, type Grants } from "../cli/who/grants.ts";
import { authproxy, start } from "./command.ts";
import { Stage, until } from "./stage.ts";

type Parsed = { family: string; type: string; name: string; labels: Labels; value: number };

/** Parses the text format 0.0.4 as the textfile collector does. Throws at anything else. */
function parse(text: string): Parsed[] {
  const samples: Parsed[] = [];
  const families = new Set<string>();
  const series = new Set<string>();
  let family = "";
  let type = "";
  if (text !== "" && !text.endsWith("\n")) throw new Error("the last line has no end");
  for (const line of text.split("\n").slice(0, -1)) {
    const help = /^# HELP ([a-zA-Z_:][\w:]*) (?:[^\\]|\\[\\n])*$/.exec(line);
    const typed = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram)$/.exec(line);
    if (help) {
      if (families.has(help[1] ?? "")) throw new Error(`twice: ${line}`);
      [, family = ""] = help;
      families.add(family);
      type = "";
    } else if (typed) {
      if (typed[1] !== family || type) throw new Error(`TYPE not after its HELP: ${line}`);
      [, , type = ""] = typed;
      if (type === "counter" && !family.endsWith("_total")) throw new Error(`counter: ${line}`);
    } else {
      const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/su.exec(line);
      if (!sample || !type) throw new Error(`no sample: ${JSON.stringify(line)}`);
      const [, name = "", inside = "", number = ""] = sample;
      const suffixes = type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
      if (!suffixes.some((suffix) => name === family + suffix)) throw new Error(`stray: ${line}`);
      const key = name + inside;
      if (series.has(key)) throw new Error(`twice: ${line}`);
      series.add(key);
      const value = Number(number);
      if (!/^\d+(\.\d+)?(e[+-]\d+)?$/.test(number)) throw new Error(`no number: ${line}`);
      samples.push({ family, type, name, labels: labelsIn(inside), value });
    }
  }
  histograms(samples);
  return samples;
}

function labelsIn(text: string): Labels {
  const pair = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=.)|$)/gsu;
  const labels: Labels = {};
  let read = 0;
  for (const [whole, key = "", value = ""] of text.matchAll(pair)) {
    if (key in labels) throw new Error(`twice: ${key}`);
    labels[key] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    read += whole.length;
  }
  if (read !== text.length) throw new Error(`no labels: ${JSON.stringify(text)}`);
  return labels;
}

function histograms(samples: Parsed[]): void {
  const buckets = samples.filter(({ name, type }) => type === "histogram" && /_bucket$/.test(name));
  const of = new Map<string, Parsed[]>();
  for (const bucket of buckets) {
    const { le: _, ...labels } = bucket.labels;
    const key = JSON.stringify(labels);
    of.set(key, [...(of.get(key) ?? []), bucket]);
  }
  for (const [key, all] of of) {
    const same = (suffix: string) =>
      samples.find(({ name, labels }) => name.endsWith(suffix) && JSON.stringify(labels) === key);
    const values = all.map(({ value }) => value);
    const bounds = all.map(({ labels }) => (labels.le === "+Inf" ? Infinity : Number(labels.le)));
    if (String(values) !== String([...values].sort((a, b) => a - b)))
      throw new Error("not growing");
    if (String(bounds) !== String([...bounds].sort((a, b) => a - b))) throw new Error("bounds");
    if (bounds.at(-1) !== Infinity || values.at(-1) !== same("_count")?.value || !same("_sum"))
      throw new Error(`incomplete: ${key}`);
  }
}

function value(samples: Parsed[], name: string, labels: Labels = {}): number | undefined {
  const wanted = JSON.stringify(labels);
  return samples.find(
    (one) => one.name === `authproxy_${name}` && JSON.stringify(one.labels) === wanted,
  )?.value;
}

const time = "2026-01-02T03:04:05.000Z";
const lineOf = (event: string, fields = {}) => JSON.stringify({ time, event, ...fields });
function counted(lines: string[]): Parsed[] {
  const counter = new Counter();
  for (const line of lines) counter.add(line);
  return parse(exposition(counter.families()));
}

describe("the text", () => {
  test("keeps whatever a label holds inside that label", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string(), (text, help) => {
        const labels = { a: text, b: "" };
        const sample = { labels, value: 1 };
        const written = exposition([{ name: "x", help, type: "gauge", samples: [sample] }]);
        expect(parse(Buffer.from(written).toString())).toMatchObject([{ labels, value: 1 }]);
      }),
    );
  });

  test.each([
    ["a sample without a type", "# HELP a b\na 1\n"],
    ["no end of line", "# HELP a b\n# TYPE a gauge\na 1"],
    ["a series twice", "# HELP a b\n# TYPE a gauge\na 1\na 2\n"],
    ["a quote that ends its label", '# HELP a b\n# TYPE a gauge\na{b="c"d"} 1\n'],
    ["a time, which the collector refuses", "# HELP a b\n# TYPE a gauge\na 1 1700000000000\n"],
    ["a counter without _total", "# HELP a b\n# TYPE a counter\na 1\n"],
  ])("this test's parser refuses %s", (_, text) => {
    expect(() => parse(text)).toThrow();
  });
});

describe("the count", () => {
  test("is by service and reason, of plain lines and of a journal's", () => {
    const samples = counted([
      lineOf("ready"),
      lineOf("granted", { service: "app", accessor: "a", ms: 4 }),
      `Jan 01 00:00:00 host authproxy[7]: ${lineOf("granted", { service: "app", accessor: "b" })}`,
      lineOf("revoked", { service: "app", accessor: "a" }),
      lineOf("refused", { reason: "no-match", ms: 3 }),
      lineOf("refused", { reason: "once", service: "app", ms: 300 }),
      lineOf("unavailable", { reason: "EACCES: permission denied, open '/proc/1'", ms: 20_000 }),
      lineOf("retry", { reason: "vault", service: "app" }),
      lineOf("renew-failed", { service: "app" }),
      lineOf("reload-failed"),
      lineOf("login").slice(0, 50),
      "a line of something else",
    ]);
    const app = { service: "app" };
    expect(value(samples, "granted_total", app)).toBe(2);
    expect(value(samples, "leases", app)).toBe(1);
    expect(value(samples, "revoked_total", app)).toBe(1);
    expect(value(samples, "refused_total", { service: "", reason: "no-match" })).toBe(1);
    expect(value(samples, "refused_total", { ...app, reason: "once" })).toBe(1);
    expect(value(samples, "unavailable_total", { service: "", reason: "internal" })).toBe(1);
    expect(value(samples, "retries_total", { reason: "vault" })).toBe(1);
    expect(value(samples, "renew_failures_total", app)).toBe(1);
    expect(value(samples, "reload_failures_total")).toBe(1);
    expect(value(samples, "reloads_total")).toBe(0);
    expect(value(samples, "login_failures_total")).toBe(0);
    expect(value(samples, "broken_lines_total")).toBe(1);
    expect(value(samples, "last_event_timestamp_seconds")).toBe(Date.parse(time) / 1000);
    const seconds = (answer: string, le: string) =>
      value(samples, "answer_seconds_bucket", { answer, le });
    expect(seconds("granted", "0.005")).toBe(1);
    expect([seconds("refused", "0.25"), seconds("refused", "0.5")]).toEqual([1, 2]);
    expect([seconds("unavailable", "10"), seconds("unavailable", "+Inf")]).toEqual([0, 1]);
    expect(value(samples, "answer_seconds_sum", { answer: "refused" })).toBeCloseTo(0.303);
  });

  test("is of each event of docs/audit.md, and of no other", () => {
    const page = readFileSync(join(import.meta.dirname, "../docs/audit.md"), "utf8");
    const table = page.slice(page.indexOf("| event |"), page.indexOf("| field |"));
    const documented = [...table.matchAll(/^\| (`[a-z`, -]+`) \|/gm)].flatMap(([, names = ""]) =>
      names.replaceAll("`", "").split(", "),
    );
    expect(documented.sort()).toEqual(Object.keys(COUNTED_EVENTS).sort());
  });

  test.each(["revoked", "gone", "expired"])("and `who` know of a token that is %s", (end) => {
    const fields = { service: "app", container: "c", accessor: "a" };
    const lines = [lineOf("granted", fields), lineOf(end, fields)];
    const samples = counted(lines);
    expect(value(samples, `${end}_total`, { service: "app" })).toBe(1);
    expect(value(samples, "leases", { service: "app" })).toBe(0);
    const grants: Grants = new Map();
    for (const line of lines) addLine(grants, line);
    expect(grants.get("c")).toMatchObject({ ended: expect.any(String), living: new Set() });
  });

  test("has few series in a valid text, whatever the lines say", () => {
    const word = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("constructor", "__proto__"),
    );
    const event = fc.oneof(
      fc.constantFrom("granted", "refused", "retry", "login", "revoked"),
      word,
    );
    const json = fc.oneof(word, fc.jsonValue());
    const line = fc
      .record({ event, service: json, reason: json, accessor: json, ms: json, time: json })
      .map(({ time, ...rest }) => JSON.stringify({ time, ...rest }));
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string()), { maxLength: 40 }), (lines) => {
        const names = counted(lines).flatMap(({ labels }) => labels.reason ?? []);
        expect([...REASONS]).toEqual(expect.arrayContaining(names));
      }),
      // String() of this time throws.
      { examples: [[['{"time":{"toString":0},"event":"granted"}']]] },
    );
    const many = Array.from({ length: 5000 }, (_, i) =>
      lineOf("refused", { service: `service-${i}`, reason: `reason-${i}`, ms: i }),
    );
    const samples = counted(many);
    expect(samples.length).toBeLessThan(300);
    expect(value(samples, "refused_total", { service: "other", reason: "internal" })).toBe(4900);
  });

  test("has the families of docs/metrics.md, with type and labels", () => {
    const text = readFileSync(join(import.meta.dirname, "../docs/metrics.md"), "utf8");
    const rows = text.matchAll(/^\| `(authproxy_\w+)` \| (\w+) \| ([\w, ]*?) *\|/gm);
    const documented = [...rows].map(([, name, type, labels]) => `${name} ${type} ${labels}`);
    const fields = { service: "app", reason: "once", accessor: "a", ms: 1 };
    const samples = counted(
      Object.keys(COUNTED_EVENTS)
        .map((event) => lineOf(event, fields))
        .concat(lineOf("granted", fields)),
    );
    const keys = (labels: Labels) => Object.keys(labels).filter((key) => key !== "le");
    const real = samples.map(
      ({ family, type, labels }) => `${family} ${type} ${keys(labels).join(", ")}`,
    );
    expect(documented.sort()).toEqual([...new Set(real)].sort());
  });
});

test("a running server is followed, and the file is whole at every moment", async () => {
  await using stage = new Stage();
  const out = join(stage.directory, "authproxy.prom");
  const follower = start(["metrics", "--out", out, "--every", "0.001"]);
  const ended = once(follower, "close");
  stage.defer(() => follower.kill("SIGKILL"));
  await until("there is a file", () => readdirSync(stage.directory).includes("authproxy.prom"));
  expect(statSync(out).mode & 0o777).toBe(0o644);
  const server = await stage.server();
  let sentLength = 0;
  const read = () => {
    follower.stdin.write(server.stdout.slice(sentLength));
    sentLength = server.stdout.length;
    return parse(readFileSync(out, "utf8"));
  };
  const app = { service: "app" };
  const container = await stage.container();
  await until("it is granted", () => value(read(), "granted_total", app) === 1);
  expect(value(read(), "leases", app)).toBe(1);
  const stranger = await stage.container({ labels: { app: "stranger" } });
  await stranger.ended;
  const noMatch = { service: "", reason: "no-match" };
  await until("it is refused", () => value(read(), "refused_total", noMatch) === 1);
  await container.kill();
  await until("it is revoked", () => value(read(), "leases", app) === 0);
  expect(value(read(), "revoked_total", app)).toBe(1);
  for (let i = 0; i < 2000; i++) {
    follower.stdin.write(`${lineOf("granted", { service: "app", accessor: `${i}` })}\n`);
    if (i % 10 === 0) read();
  }
  await until("all is counted", () => value(read(), "leases", app) === 2000);
  follower.kill("SIGTERM");
  expect(await ended).toEqual([0, null]);
  expect(readdirSync(stage.directory)).not.toContain("authproxy.prom.new");
});

test("a file is counted once, to standard output or a file, and wrong options are refused", async () => {
  await using stage = new Stage();
  const file = join(stage.directory, "audit.jsonl");
  const out = join(stage.directory, "authproxy.prom");
  writeFileSync(file, lineOf("granted", { service: "app", accessor: "a" })); // no end of line yet
  const { status, stdout } = await authproxy(["metrics", file]);
  expect(status).toBe(0);
  expect(value(parse(stdout), "granted_total", { service: "app" })).toBe(1);
  const silent = await authproxy(["metrics", file, "--out", out]);
  expect(silent).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(readFileSync(out, "utf8")).toBe(stdout);
  expect(await authproxy(["metrics", join(stage.directory, "none")])).toMatchObject({ status: 66 });
  for (const wrong of [
    [file, "--out", join(stage.directory, "a.txt")],
    [file, "--out", join(stage.directory, "none/a.prom")],
    [file, "--every", "0"],
    [file, "--revoke"],
  ])
    expect(await authproxy(["metrics", ...wrong])).toMatchObject({ status: 64, stdout: "" });
});
