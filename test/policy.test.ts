import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Json, JsonObject } from "../server/json.ts";
import { choose, mismatchesOf } from "../server/policy.ts";
import type { Refusal } from "../server/refusal.ts";

const token = { create: "auth/token/create/app" };

const document: JsonObject = {
  peer: { pid: 7, uid: 0, gid: 1001, groups: [], label: "" },
  process: { exe: "/usr/bin/node", cgroup: ["node", "a.js"], init: true, alone: false },
  container: {
    Image: "sha256:1",
    Path: "node",
    Args: ["a.js"],
    State: { Pid: 7, Running: true },
    Config: { User: "", Env: ["A=the-secret"], Labels: { app: "app", stage: "test" } },
    HostConfig: { Privileged: false, CpuShares: 0, CapAdd: null },
  },
};

/** The name of the service that the document is given, by what each must contain. */
function chosen(matches: Record<string, JsonObject>): string {
  return choose(
    document,
    Object.entries(matches).map(([name, match]) => [name, { match, token }]),
  )[0];
}

function refusal(matches: Record<string, JsonObject>): { reason: string; detail: unknown } {
  try {
    return { reason: `none: ${chosen(matches)}`, detail: undefined };
  } catch (error) {
    return error as Refusal;
  }
}

describe("a fragment is in the document", () => {
  test.each<[string, JsonObject, boolean]>([
    ["a text", { container: { Path: "node" } }, true],
    ["another text", { container: { Path: "nodejs" } }, false],
    ["a part of a text", { container: { Path: "nod" } }, false],
    ["uid 0", { peer: { uid: 0 } }, true],
    ["gid 0, where it is 1001", { peer: { gid: 0 } }, false],
    ["false", { container: { HostConfig: { Privileged: false } } }, true],
    ["true, where it is false", { container: { HostConfig: { Privileged: true } } }, false],
    ["false, where it is 0", { container: { HostConfig: { CpuShares: false } } }, false],
    ["0", { container: { HostConfig: { CpuShares: 0 } } }, true],
    ["0, where it is false", { container: { HostConfig: { Privileged: 0 } } }, false],
    ["0, where it is an empty text", { container: { Config: { User: 0 } } }, false],
    ["0, where it is null", { container: { HostConfig: { CapAdd: 0 } } }, false],
    ["an empty text", { container: { Config: { User: "" } } }, true],
    ["an empty text, where there is nothing", { container: { Config: { Cmd: "" } } }, false],
    ["false, where there is nothing", { process: { dumpable: false } }, false],
    ["a number, written as a text", { peer: { uid: "0" } }, false],
    ["a list, the same", { process: { cgroup: ["node", "a.js"] } }, true],
    ["a list, in another order", { process: { cgroup: ["a.js", "node"] } }, false],
    ["a list, shorter", { process: { cgroup: ["node"] } }, false],
    ["a list, longer", { process: { cgroup: ["node", "a.js", "b"] } }, false],
    ["an empty list, the same", { peer: { groups: [] } }, true],
    ["an empty list, where one is not empty", { process: { cgroup: [] } }, false],
    ["an empty list, where a text is", { container: { Path: [] } }, false],
    ["any of these", { container: { Path: ["java", "node"] } }, true],
    ["none of these", { container: { Path: ["java", "ruby"] } }, false],
    ["any of these, 0 among them", { peer: { uid: [0, 1] } }, true],
    ["any of these, where there is nothing", { container: { Cmd: ["a", "b"] } }, false],
    ["a text, where a list has it", { container: { Args: "a.js" } }, false],
    ["an object in an object", { container: { Config: { Labels: { app: "app" } } } }, true],
    ["any of these objects", { container: { State: [{ Running: true, Pid: 7 }, {}] } }, true],
    ["any of these objects, each only a part", { container: { State: [{ Pid: 7 }, {}] } }, false],
    ["an object, where a text is", { container: { Path: { length: 4 } } }, false],
    ["an object, where a list is", { container: { Args: { "0": "a.js" } } }, false],
    ["an object, where there is nothing", { container: { Nothing: { at: "all" } } }, false],
    ["what every object inherits", { container: { constructor: { name: "Object" } } }, false],
    ["what every text inherits", { container: { Path: { toString: "x" } } }, false],
    ["a label named __proto__", JSON.parse('{"container":{"__proto__":{"x":1}}}'), false],
  ])("%s", (_, match, holds) => {
    const { reason } = refusal({ app: match });
    expect(reason).toBe(holds ? "none: app" : "no-match");
  });

  test("when it is the document itself, or any part of it", () => {
    const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean());
    const key = fc.string({ minLength: 1 });
    const { tree } = fc.letrec<{ tree: JsonObject }>((tie) => ({
      tree: fc.dictionary(
        key,
        fc.oneof(
          { depthSize: "small" },
          scalar,
          fc.array(scalar),
          tie("tree"),
        ) as fc.Arbitrary<Json>,
        { minKeys: 1, noNullPrototype: true },
      ),
    }));
    fc.assert(
      fc.property(tree, fc.infiniteStream(fc.boolean()), (whole, keep) => {
        const part = (value: Json): Json => {
          if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
          const kept = Object.entries(value).filter(() => keep.next().value);
          return Object.fromEntries(kept.map(([name, child]) => [name, part(child)]));
        };
        expect(mismatchesOf(part(whole) as JsonObject, whole as JsonObject)).toEqual([]);
      }),
    );
  });

  test("no longer, when any scalar of it is another", () => {
    const paths = [
      ["peer", "uid"],
      ["process", "init"],
      ["container", "Config", "Labels", "app"],
      ["container", "HostConfig", "Privileged"],
    ];
    const other = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null));
    fc.assert(
      fc.property(fc.constantFrom(...paths), other, (path, value) => {
        const seen = path.reduce<Json>((part, key) => (part as JsonObject)[key] ?? null, document);
        fc.pre(value !== seen);
        const match = path.reduceRight<Json>((child, key) => ({ [key]: child }), value);
        const { reason } = refusal({ app: match as JsonObject });
        expect(reason).toBe("no-match");
      }),
    );
  });
});

describe("a service is chosen", () => {
  const right = { container: { Config: { Labels: { app: "app" } } } };
  const wrong = { container: { Config: { Labels: { app: "other" } } } };

  test("where it is the one that matches", () => {
    expect(chosen({ wrong, right })).toBe("right");
    expect(chosen({ right, wrong })).toBe("right");
  });

  test("not where there is none", () => {
    expect(refusal({}).reason).toBe("no-match");
  });

  test("not where two match: the refusal names both", () => {
    const { reason, detail } = refusal({ right, also: right });
    expect(reason).toBe("ambiguous");
    expect(detail).toEqual({ services: ["right", "also"] });
  });

  test("not where one of two that match says more than the other", () => {
    const more = { ...right, peer: { uid: 0 } };
    expect(refusal({ right, more }).reason).toBe("ambiguous");
  });

  test("not where none matches: the refusal names the nearest, and what it misses", () => {
    const near = { peer: { uid: 0, gid: 5 }, ...right };
    const { reason, detail } = refusal({ far: { peer: { uid: 1, gid: 5 }, ...wrong }, near });
    expect(reason).toBe("no-match");
    expect(detail).toEqual({ service: "near", path: "peer.gid", wanted: 5, seen: 1001 });
  });

  test("by a refusal that shows no value of the environment", () => {
    const path = "container.Config.Env";
    for (const [Env, place] of [
      [["A=wanted-secret"], path],
      ["A=wanted-secret", path],
      [{ A: "wanted-secret" }, `${path}.A`],
    ] as const) {
      const { detail } = refusal({ app: { container: { Config: { Env } } } as JsonObject });
      expect(detail).toEqual({ service: "app", path: place });
    }
  });

  test.each<[string, JsonObject]>([
    ["Args", { Args: ["the-secret"] }],
    ["Config.Cmd", { Config: { Cmd: ["the-secret"] } }],
    ["Config.Entrypoint", { Config: { Entrypoint: ["the-secret"] } }],
    ["Config.Healthcheck", { Config: { Healthcheck: null } }],
    ["Config.Healthcheck.Test", { Config: { Healthcheck: { Test: ["the-secret"] } } }],
    ["State.Health.Log", { State: { Health: { Log: ["the-secret"] } } }],
    ["State.Health", { State: { Health: null } }],
  ])(
    "by a refusal that shows neither what is wanted nor what is seen of %s",
    (place, container) => {
      const text = "the-secret-too";
      const seen: JsonObject = {
        container: {
          Args: [text],
          Config: { Cmd: [text], Entrypoint: [text], Healthcheck: { Test: [text] } },
          State: { Health: { Log: [{ Output: text }] } },
        },
      };
      expect(mismatchesOf({ container }, seen)).toEqual([{ path: `container.${place}` }]);
    },
  );

  test("by a refusal that shows no annotation of a pod", () => {
    const seen = { pod: { annotations: { note: "the-secret" } } };
    const mismatches = mismatchesOf({ pod: { annotations: { note: "other" } } }, seen);
    expect(mismatches).toEqual([{ path: "pod.annotations.note" }]);
  });

  test.each<[string, JsonObject, JsonObject, Json, Json]>([
    ["an object is only named", { State: "x" }, { State: { Error: "secret" } }, "x", "an object"],
    [
      "of objects in a list there is no more",
      { Devices: [] },
      { Devices: [{ Secret: "secret" }, 1] },
      [],
      ["an object", 1],
    ],
    [
      "of mounts, what they are",
      { Mounts: [] },
      {
        Mounts: [
          { Destination: "/a", RW: true, Source: "/secret" },
          { Destination: "/b", RW: false },
        ],
      },
      [],
      ["/a", "/b:ro"],
    ],
    [
      "of a long list, its beginning",
      { Groups: 7 },
      { Groups: Array.from({ length: 1000 }, (_, i) => i) },
      7,
      Array.from({ length: 32 }, (_, i) => i),
    ],
    [
      "of labels, the one that is asked for",
      { Config: { Labels: { app: "x" } } },
      { Config: { Labels: { app: "y", other: "secret" } } },
      "x",
      "y",
    ],
  ])("by a refusal that shows members one by one: %s", (_, match, seen, wanted, shown) => {
    const [mismatch] = mismatchesOf(match, seen);
    expect(mismatch).toMatchObject({ wanted, seen: shown });
    expect(JSON.stringify(mismatch)).not.toContain("secret");
  });
});

describe("the environment of a container", () => {
  const holds = (wanted: Json, seen: Json) =>
    mismatchesOf(
      { container: { Config: { Env: wanted } } },
      { container: { Config: { Env: seen } } },
    ).length === 0;

  test.each<[string, Json, Json]>([
    ["a list in another order", ["A=1", "B=2"], ["B=2", "A=1"]],
    ["an object, in any order", { A: "1", B: "2" }, ["B=2", "A=1"]],
    ["an object, beside other variables", { A: "1" }, ["B=2", "A=1"]],
    ["a variable that is not to be set", { NODE_OPTIONS: null }, ["A=1"]],
    ["… in no environment at all", { NODE_OPTIONS: null }, null],
    ["no environment at all", [null], null],
    ["any of these values", { A: ["1", "2"] }, ["A=2"]],
    ["any of these values, or none", { A: ["1", null] }, ["B=2"]],
    ["a value with = in it", { A: "b=c=" }, ["A=b=c="]],
    ["a value of several lines", { A: "b\nC=d" }, ["A=b\nC=d"]],
    ["an empty value", { A: "" }, ["A="]],
    ["each variable, and no other", { A: "1", B: ["2", null], "*": null }, ["A=1"]],
    ["no other, in no environment", { A: null, "*": null }, null],
    ["a name that every object has", { constructor: null }, ["A=1"]],
  ])("matches: %s", (_, wanted, seen) => {
    expect(holds(wanted, seen)).toBe(true);
  });

  test.each<[string, Json, Json]>([
    ["a list that is shorter", ["A=1"], ["A=1", "B=2"]],
    ["a list that is longer", ["A=1", "B=2"], ["A=1"]],
    ["a list against one with a name twice", ["A=1"], ["A=1", "A=1"]],
    ["another value", { A: "1" }, ["A=2"]],
    ["another variable, where there is to be no other", { A: "1", "*": null }, ["A=1", "B=2"]],
    ["… whose name is *", { A: "1", "*": null }, ["A=1", "*="]],
    ["… that has no value", { A: "1", "*": null }, ["A=1", "B"]],
    ["a name in another case", { A: "1" }, ["a=1"]],
    ["the beginning of a name", { A: "1" }, ["AB=1"]],
    ["a variable that is set, and is not to be", { NODE_OPTIONS: null }, ["NODE_OPTIONS="]],
    ["… and stands there without a value", { NODE_OPTIONS: null }, ["NODE_OPTIONS"]],
    ["a name that stands twice, the first as wanted", { A: "1" }, ["A=1", "A=2"]],
    ["a name that stands twice, the last as wanted", { A: "1" }, ["A=2", "A=1"]],
    ["a name that stands twice, both any of these", { A: ["1", "2"] }, ["A=1", "A=2"]],
    ["a name that stands twice, both as wanted", { A: "1" }, ["A=1", "A=1"]],
    ["a name that stands twice, and is not to be set", { A: null }, ["A=1", "A=1"]],
    ["a name without a value, where it is to be empty", { A: "" }, ["A"]],
    ["a name that every object has", JSON.parse('{"__proto__":null}'), ["__proto__=x"]],
    ["a variable that is wanted, in no environment", { A: "1" }, null],
  ])("does not match: %s", (_, wanted, seen) => {
    expect(holds(wanted, seen)).toBe(false);
  });

  test("is compared so in no other place", () => {
    const labels = { Config: { Labels: { Env: "a" } } };
    expect(mismatchesOf(labels, labels)).toEqual([]);
    expect(mismatchesOf({ Args: { A: "1" } }, { Args: ["A=1"] })).toHaveLength(1);
    expect(mismatchesOf({ Args: ["a", "b"] }, { Args: ["b", "a"] })).toHaveLength(1);
  });
});
