import { describe, expect, test } from "vitest";
import { parseAnswer } from "../client/answer.ts";
import { planEnvironment } from "../client/environment.ts";
import { readOptions } from "../client/options.ts";

describe("options", () => {
  test("have defaults", () => {
    expect(readOptions(["app", "--flag"], {})).toEqual({
      socket: "/run/authproxy/authproxy.sock",
      socketOwner: 0,
      waitMs: 60_000,
      files: "/run/authproxy-secrets",
      allowWrite: [],
      keep: [],
      command: ["app", "--flag"],
    });
  });
  test("come from variables, lists by commas", () => {
    const environment = {
      AUTHPROXY_WAIT: "1.5",
      AUTHPROXY_ALLOW_WRITE: "a/b,c",
      AUTHPROXY_KEEP: "",
    };
    const options = readOptions(["app"], { ...environment, AUTHPROXY_SERVICE_PORT: "80" });
    expect(options).toMatchObject({ waitMs: 1500, allowWrite: ["a/b", "c"] });
  });
  test("an argument wins over its variable, and ends where the command begins", () => {
    const argv = [
      "--wait=2",
      "--socket",
      "/s",
      "--keep",
      "A",
      "--keep=B",
      "--",
      "--odd",
      "--wait=3",
    ];
    expect(readOptions(argv, { AUTHPROXY_WAIT: "9" })).toMatchObject({
      waitMs: 2000,
      socket: "/s",
      keep: ["A", "B"],
      command: ["--odd", "--wait=3"],
    });
  });
  test.each([
    [[]],
    [["--"]],
    [["--", ""]],
    [["--wait"]],
    [["--wait", "soon", "app"]],
    [["--socket=relative", "app"]],
    [["--socket-owner=root", "app"]],
    [["--nonsense", "app"]],
    [["-wait=1", "app"]],
    [["--help"]],
  ])("%j is a usage error that lists them", (argv) => {
    expect(() => readOptions(argv, {})).toThrow(
      expect.objectContaining({ exitCode: 64, hint: expect.stringContaining("--socket-owner …") }),
    );
  });
});

describe("the application's environment", () => {
  test("keeps all that is plain where there is no reference, but nothing of the client's", () => {
    const environment = { A: "1", VAULT_ADDR: "x", AUTHPROXY_WAIT: "1", AUTHPROXY_X: "vault:" };
    expect(planEnvironment(environment, [])).toEqual({
      plain: { A: "1", VAULT_ADDR: "x" },
      wanted: [],
      login: false,
    });
  });
  test("loses VAULT_… where there are references, except what is kept", () => {
    const environment = { A: "1", VAULT_ADDR: "x", VAULT_CACERT: "y", P: "vault:a/b#c" };
    expect(planEnvironment(environment, ["VAULT_CACERT"]).plain).toEqual({
      A: "1",
      VAULT_CACERT: "y",
    });
  });
  test("keeps VAULT_… of an application that asks for the token", () => {
    const { plain, login } = planEnvironment({ VAULT_TOKEN: "vault:login", VAULT_ADDR: "x" }, []);
    expect([plain, login]).toEqual([{ VAULT_ADDR: "x" }, true]);
  });
  test("X_FILE is to be a file called X", () => {
    const { wanted } = planEnvironment({ X: "vault:a/b#c", Y_FILE: "vault:a/b#c" }, []);
    expect(wanted.map(({ variable, file }) => [variable, file])).toEqual([
      ["X", undefined],
      ["Y_FILE", "Y"],
    ]);
  });
  test.each(["_FILE", "A.B_FILE", "../A_FILE", "1_FILE"])("%s names no file", (variable) => {
    expect(() => planEnvironment({ [variable]: "vault:a/b#c" }, [])).toThrow("letters, digits");
  });
  test("a malformed reference is named by its variable and place, not by its text", () => {
    const URL = `pg://plain-password@$${"{vault:a}"}`;
    expect(() => planEnvironment({ URL }, [])).toThrow(
      /^URL: malformed reference at character 30: # and a key must follow the path$/,
    );
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

  test("is a grant, whatever else it says", () => {
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
