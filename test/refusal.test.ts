// What the audit says of an error that the server did not foresee: where it arose, never what it was
// about.
import { closeSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Refusal, toRefusal, unavailable } from "../server/refusal.ts";

function fail(message: string): never {
  throw new Error(message);
}

function thrownBy(what: () => unknown): unknown {
  try {
    what();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test.each([
  { name: "JSON that does not end", what: () => JSON.parse('{"token":"the-secret"') },
  { name: "JSON that is none", what: () => JSON.parse("the-secret") },
  { name: "an address that is none", what: () => new URL("the-secret") },
  { name: "a message of several lines", what: () => fail("x\n    at the-secret") },
])("$name is not quoted", ({ what }) => {
  const { reason, detail, canRetry } = toRefusal(thrownBy(what));
  expect({ reason, canRetry }).toEqual({ reason: "internal", canRetry: true });
  expect(detail).toMatchObject({ name: expect.stringMatching(/Error$/) });
  expect(JSON.stringify(detail)).not.toContain("the-secret");
});

test("it is said where it arose", () => {
  const error = thrownBy(() => (undefined as unknown as { x: 1 }).x);
  expect(toRefusal(error).detail).toEqual({
    name: "TypeError",
    at: expect.stringContaining("refusal.test.ts"),
  });
});

test("of an error of the system, what was called", () => {
  const { reason, detail } = toRefusal(thrownBy(() => readFileSync("/no/such")));
  expect(reason).toBe("internal");
  expect(detail).toEqual({ code: "ENOENT", syscall: "open", path: "/no/such" });
});

test("… and nothing more, where no file was named", () => {
  const error = thrownBy(() => closeSync(2 ** 30));
  expect(toRefusal(error).detail).toEqual({ code: "EBADF", syscall: "close", path: "" });
});

test("asking again does not help, unless a refusal says so", () => {
  expect(new Refusal("labels", "app").canRetry).toBe(false);
  expect(new Refusal("once", "app", true).canRetry).toBe(true);
  expect(unavailable("alone", null).canRetry).toBe(true);
});

test.each([new Refusal("labels", "app"), unavailable("alone", null)])(
  "$reason stays",
  (refusal) => {
    expect(toRefusal(refusal)).toBe(refusal);
  },
);

test.each(["the-secret", 7])("what is thrown and no error is internal: %j", (it) => {
  const { reason, detail } = toRefusal(it);
  expect(reason).toBe("internal");
  expect(detail).toEqual({ at: "" });
});
