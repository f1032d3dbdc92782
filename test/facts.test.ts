// Question: in which user namespace may a process be? By what /proc and peercred say of it.
import { describe, expect, test } from "vitest";
import type { Container } from "../server/engine.ts";
import { findUserNamespace, type Sources } from "../server/facts.ts";
import { type Process, serverUserNamespace } from "../server/process.ts";

const container = { State: { Pid: 7 } } as Container;

/** What is found, and of which processes peercred was asked for the owner of their pid namespace. */
async function find(user: string, owner: string | undefined) {
  const asked: number[] = [];
  const ownerOfPids = async (pid: number) => {
    asked.push(pid);
    return owner;
  };
  const sources = { peercred: { ownerOfPids } } as object as Sources;
  const found = await findUserNamespace({ namespaces: { user } } as Process, container, sources);
  return { found, asked };
}

describe("a process may be", () => {
  test("in the server's user namespace, and nobody is asked", async () => {
    const expected = { found: serverUserNamespace, asked: [] };
    expect(await find(serverUserNamespace, "user:[8]")).toEqual(expected);
  });

  test.each([
    ["the one that owns the pid namespace of the engine's State.Pid", "user:[8]"],
    ["none, where the kernel does not tell it", undefined],
  ])("elsewhere in %s", async (_, owner) => {
    expect(await find("user:[9]", owner)).toEqual({ found: owner, asked: [7] });
  });
});
