import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { planEnvironment } from "../client/environment.ts";
import { Failure } from "../client/failure.ts";
import { readOptions } from "../client/options.ts";
import { parseAnswer } from "../client/token.ts";

function catchHint(failing: () => unknown): string {
  try {
    failing();
  } catch (error) {
    if (error instanceof Failure) return error.hint ?? "";
  }
  return "";
}

describe("options", () => {
  test("have documented defaults", () => {
    expect(readOptions(["app", "--flag"], {})).toEqual({
      socket: "/run/authproxy/authproxy.sock",
      socketOwner: 0,
      waitMs: 60_000,
      files: { directory: "/run/authproxy-secrets", mode: 0o400, owner: undefined },
      stdin: false,
      watch: false,
      onChange: "none",
      refreshMs: 60_000,
      allowWrite: [],
      keep: [],
      plain: [],
      command: ["app", "--flag"],
    });
  });
  test("come from variables, in which commas separate a list", () => {
    const environment = {
      AUTHPROXY_WAIT: "1.5",
      AUTHPROXY_ALLOW_WRITE: "a/b,c",
      AUTHPROXY_KEEP: "",
    };
    const options = readOptions(["app"], { ...environment, AUTHPROXY_SERVICE_PORT: "80" });
    expect(options).toMatchObject({ waitMs: 1500, allowWrite: ["a/b", "c"] });
  });
  test("each have a variable", () => {
    const environment = {
      AUTHPROXY_SOCKET: "/s",
      AUTHPROXY_SOCKET_OWNER: "7",
      AUTHPROXY_FILES: "/f",
      AUTHPROXY_FILE_MODE: "0440",
      AUTHPROXY_FILE_OWNER: "999:998",
      AUTHPROXY_STDIN: "1",
      AUTHPROXY_KEEP: "VAULT_A,VAULT_B",
      AUTHPROXY_PLAIN: "A,B_FILE",
      AUTHPROXY_WATCH: "1",
      AUTHPROXY_ON_CHANGE: "SIGHUP",
      AUTHPROXY_REFRESH: "5",
    };
    expect(readOptions(["app"], environment)).toMatchObject({
      socket: "/s",
      socketOwner: 7,
      files: { directory: "/f", mode: 0o440, owner: { uid: 999, gid: 998 } },
      stdin: true,
      keep: ["VAULT_A", "VAULT_B"],
      plain: ["A", "B_FILE"],
      watch: true,
      onChange: "SIGHUP",
      refreshMs: 5000,
    });
  });
  test("are each described in docs/client.md, with their variables", () => {
    const text = readFileSync(join(import.meta.dirname, "../docs/client.md"), "utf8");
    const hint = catchHint(() => readOptions(["--unknown"], {}));
    const names = hint.match(/--[a-z-]+(?=,|$)/g) ?? [];
    expect(names).toHaveLength(13);
    for (const name of names) {
      const variable = `AUTHPROXY_${name.slice(2).toUpperCase().replace("-", "_")}`;
      expect(text).toMatch(new RegExp(`^\\| \`${name}[^|]*\\| ${variable} \\|`, "m"));
    }
  });
  test("that are flags need no value, and accept one", () => {
    expect(readOptions(["--stdin", "--watch=0", "app"], { AUTHPROXY_WATCH: "1" })).toMatchObject({
      stdin: true,
      watch: false,
      command: ["app"],
    });
  });
  test("win as arguments over their variables, and end where the command begins", () => {
    const argv = [
      "--wait=2",
      "--socket",
      "/s",
      "--keep",
      "A",
      "--keep=B",
      "--plain=C",
      "--plain",
      "D",
      "--",
      "--odd",
      "--wait=3",
    ];
    expect(readOptions(argv, { AUTHPROXY_WAIT: "9" })).toMatchObject({
      waitMs: 2000,
      socket: "/s",
      keep: ["A", "B"],
      plain: ["C", "D"],
      command: ["--odd", "--wait=3"],
    });
  });
  test.each([
    [["--wait"]],
    [["--watch=yes", "app"]],
    [["--on-change=hup", "app"]],
    [["--file-mode=4755", "app"]],
    [["--file-owner=app", "app"]],
    [["--wait", "soon", "app"]],
    [["--socket=relative", "app"]],
    [["--socket-owner=root", "app"]],
    [["--nonsense", "app"]],
    [["-wait=1", "app"]],
    [["--help"]],
    [["--toString", "app"]],
  ])("are listed in the usage error for %j", (argv) => {
    expect(() => readOptions(argv, {})).toThrow(
      expect.objectContaining({ exitCode: 64, hint: expect.stringContaining("--socket-owner") }),
    );
  });
});

describe("the application's environment", () => {
  test("without a reference, keeps every variable but those of the client", () => {
    const environment = { A: "1", VAULT_ADDR: "x", AUTHPROXY_WAIT: "1", AUTHPROXY_X: "vault:" };
    expect(planEnvironment(environment, [])).toEqual({
      plain: { A: "1", VAULT_ADDR: "x" },
      secretVariables: [],
      asksForToken: false,
      warnings: [],
    });
  });
  test("with a reference, loses VAULT_… except what --keep names", () => {
    const environment = { A: "1", VAULT_ADDR: "x", VAULT_CACERT: "y", P: "vault:a/b#c" };
    expect(planEnvironment(environment, ["VAULT_CACERT"]).plain).toEqual({
      A: "1",
      VAULT_CACERT: "y",
    });
  });
  test("keeps VAULT_… where the application asks for the token", () => {
    const { plain, asksForToken } = planEnvironment(
      { VAULT_TOKEN: "vault:login", VAULT_ADDR: "x" },
      [],
    );
    expect([plain, asksForToken]).toEqual([{ VAULT_ADDR: "x" }, true]);
  });
  test.each([
    ["X", "X", "value"],
    ["X_FILE", "X", "file"],
    ["GF_SECURITY_ADMIN_PASSWORD__FILE", "GF_SECURITY_ADMIN_PASSWORD", "file"],
    ["FILE__PASSWORD", "PASSWORD", "file"],
    // In each it is the image that takes the prefix away.
    ["FILE__DATA_DIR", "DATA_DIR", "file"],
    ["FILE__KEY_FILE", "KEY_FILE", "file"],
    ["spring.datasource.password_FILE", "spring.datasource.password", "file"],
    ["db-password_FILE", "db-password", "file"],
    ["x_file", "x", "file"],
    ["file__x", "x", "file"],
    ["X_DIR", "X", "directory"],
    ["X__DIR", "X", "directory"],
    ["x.y-z_dir", "x.y-z", "directory"],
    // Neither convention: there is no X.
    ["_FILE", "_FILE", "value"],
    ["FILE__", "FILE__", "value"],
    ["_DIR", "_DIR", "value"],
    ["DIR__X", "DIR__X", "value"],
    ["PROFILE", "PROFILE", "value"],
  ])("takes %s for the name %s in the form of a %s", (variable, name, form) => {
    const { secretVariables } = planEnvironment({ [variable]: "vault:a/b#*" }, []);
    expect(secretVariables).toMatchObject([{ variable, name, form }]);
  });
  test("takes X_DIR for a directory only where it is all of a secret", () => {
    const values = [
      "vault:a/b#c",
      `a\${vault:a/b#*}`,
      "vault:login",
      `\${vault:a/b#*}\${vault:a/b#*}`,
    ];
    for (const X_DIR of values) {
      const { secretVariables } = planEnvironment({ X_DIR }, []);
      expect(secretVariables).toMatchObject([{ name: "X_DIR", form: "value" }]);
    }
  });
  test("gets the variables of AUTHPROXY_SET_…", () => {
    const environment = {
      AUTHPROXY_SET_NODE_OPTIONS: "--require x",
      AUTHPROXY_SET_P: "vault:a/b#c",
      AUTHPROXY_SET_AUTHPROXY_WAIT: "1",
      AUTHPROXY_SET_: "1",
      P: "plain",
    };
    const { plain, secretVariables } = planEnvironment(environment, []);
    expect([plain, secretVariables.map(({ variable }) => variable)]).toEqual([
      { NODE_OPTIONS: "--require x" },
      ["P"],
    ]);
  });
  test.each([
    ["a plain value", { P: "image", AUTHPROXY_SET_P: "user" }, { P: "user" }, []],
    ["an empty value", { P: "image", AUTHPROXY_SET_P: "" }, { P: "" }, []],
    ["PATH", { PATH: "/image", AUTHPROXY_SET_PATH: "/user" }, { PATH: "/user" }, []],
    ["a reference over a plain value", { P: "image", AUTHPROXY_SET_P: "vault:a/b#c" }, {}, ["P"]],
    ["a plain value over a reference", { P: "vault:a/b#c", AUTHPROXY_SET_P: "u" }, { P: "u" }, []],
    ["a file", { P_FILE: "/image", AUTHPROXY_SET_P_FILE: "vault:a/b#c" }, {}, ["P_FILE"]],
  ])("has AUTHPROXY_SET_X and not the image's X: %s", (_, environment, plain, secret) => {
    for (const order of [Object.entries(environment), Object.entries(environment).reverse()]) {
      const planned = planEnvironment(Object.fromEntries(order), []);
      expect(planned.plain).toEqual(plain);
      expect(planned.secretVariables.map(({ variable }) => variable)).toEqual(secret);
    }
  });
  test("has what --plain names as it is, reference or not", () => {
    const environment = {
      A: "vault:a/b#c",
      B: "vault:a/b#",
      C_FILE: "vault:login",
      D: '"vault:a#b"',
    };
    const plan = planEnvironment(environment, [], Object.keys(environment));
    expect(plan).toEqual({
      plain: environment,
      secretVariables: [],
      asksForToken: false,
      warnings: [],
    });
  });
  test("reports a malformed reference by variable and position, and how to escape it", () => {
    const failing = () => planEnvironment({ URL: `pg://plain-password@\${vault:a/b#c#x}` }, []);
    expect(failing).toThrow(/^URL: malformed reference at character 35: after a key comes [^@]*$/);
    expect(catchHint(failing)).toMatch(/vault:PATH#KEY.*: --plain URL \(AUTHPROXY_PLAIN\)$/);
  });
});

describe("the server's answer", () => {
  const grant = {
    service: "timeline",
    token: "hvs.x",
    wrapped: false,
    vault: { address: "https://vault.example:8200" },
  };
  const line = (answer: unknown) => `${JSON.stringify(answer)}\n`;

  test("is a grant, whatever further members it has", () => {
    expect(parseAnswer(line({ ...grant, ttl: 300, renewable: true, later: {} }))).toEqual({
      ...grant,
      vault: { ...grant.vault, ca: undefined, namespace: undefined },
    });
  });
  test.each(["refused", "unavailable"])("is %s", (error) => {
    expect(parseAnswer(line({ error, later: 1 }))).toBe(error);
  });
  test("is unavailable where it ends before its line does", () => {
    expect(["", JSON.stringify(grant)].map(parseAnswer)).toEqual(["unavailable", "unavailable"]);
  });
  test.each([
    "SSH-2.0-OpenSSH\r\n",
    "null\n",
    line([]),
    line({ error: "maybe" }),
    line({ ...grant, error: 1 }),
    `${line(grant)}${line(grant)}`,
    line({ ...grant, token: "a\r\nX-Evil: 1" }),
    line({ ...grant, token: "" }),
    line({ ...grant, wrapped: "no" }),
    line({ ...grant, vault: { address: "https://v", namespace: "a b" } }),
    line({ ...grant, vault: { address: "https://v", ca: 1 } }),
    line({ ...grant, vault: {} }),
  ])("is malformed: %j", (text) => {
    expect(parseAnswer(text)).toBe("malformed");
  });
});
