// One peer of a key is judged at a time, less and less often while it gets nothing; and of the same
// thing one call is under way.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SharedCalls } from "../server/shared.ts";
import { Turns } from "../server/turns.ts";

async function until(what: string, holds: () => boolean): Promise<void> {
  await vi.waitUntil(holds, { timeout: 10_000 }).catch(() => {
    throw new Error(`not in time: ${what}`);
  });
}

/** What a promise has come to when so much time has passed, or "pending". */
async function comesTo<T>(ms: number, promise: Promise<T>): Promise<T | "pending"> {
  let outcome: T | "pending" = "pending";
  void promise.then((value) => (outcome = value));
  await vi.advanceTimersByTimeAsync(ms);
  return outcome;
}

describe("the place of a key", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("is taken at once where it is free, and by others of other keys", async () => {
    const turns = new Turns();
    expect(await comesTo(0, turns.take("one"))).toBe(true);
    expect(await comesTo(0, turns.take("two"))).toBe(true);
  });

  test("that is taken is waited for, and given up after 100 ms", async () => {
    const turns = new Turns();
    await turns.take("key");
    const second = turns.take("key");
    expect(await comesTo(99, second)).toBe("pending");
    expect(await comesTo(1, second)).toBe(false);
  });

  test("is waited for 10 ms longer by each that others wait before, up to 3 s", async () => {
    const turns = new Turns();
    await turns.take("key");
    const waiting = Array.from({ length: 400 }, () => turns.take("key"));
    const [, second, third] = waiting as [unknown, Promise<boolean>, Promise<boolean>];
    expect(await comesTo(110, second)).toBe(false);
    expect(await comesTo(9, third)).toBe("pending");
    expect(await comesTo(1, third)).toBe(false);
    expect(await comesTo(2879, waiting[399] as Promise<boolean>)).toBe("pending");
    expect(await comesTo(1, waiting[399] as Promise<boolean>)).toBe(false);
  });

  test("goes to those that wait, in their order, one at a time, when the first got its token", async () => {
    const turns = new Turns();
    await turns.take("key");
    const [second, third] = [turns.take("key"), turns.take("key")];
    turns.leave("key", true);
    expect(await comesTo(0, second)).toBe(true);
    expect(await comesTo(0, third)).toBe("pending");
    turns.leave("key", true);
    expect(await comesTo(0, third)).toBe(true);
    expect(vi.getTimerCount(), "the one that forgets old keys").toBe(1);
  });

  test("pauses after a judgement without a token: 100 ms, doubling to 5 s", async () => {
    const turns = new Turns();
    for (const pauseMs of [100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
      expect(await comesTo(0, turns.take("key"))).toBe(true);
      turns.leave("key", false);
      // Who comes 101 ms before the end waits for 100 ms in vain; who comes 1 ms later does not.
      await vi.advanceTimersByTimeAsync(Math.max(pauseMs - 101, 0));
      if (pauseMs > 100) expect(await comesTo(100, turns.take("key"))).toBe(false);
      await vi.advanceTimersByTimeAsync(pauseMs > 100 ? 1 : pauseMs);
    }
  });

  test("pauses no longer once a token was given", async () => {
    const turns = new Turns();
    await turns.take("key");
    turns.leave("key", false);
    await vi.advanceTimersByTimeAsync(100);
    await turns.take("key");
    turns.leave("key", true);
    expect(await comesTo(0, turns.take("key"))).toBe(true);
    turns.leave("key", false);
    await vi.advanceTimersByTimeAsync(100);
    expect(await comesTo(0, turns.take("key")), "the first pause again").toBe(true);
  });

  test("is given to nobody during its pause: those who wait go on waiting", async () => {
    const turns = new Turns();
    await turns.take("key");
    const second = turns.take("key");
    turns.leave("key", false);
    expect(await comesTo(99, second)).toBe("pending");
    expect(await comesTo(1, second), "after the first pause it is free").toBe(true);
  });

  // The old are looked for every 5 s.
  test.each([
    { name: "not forgotten 5 s after its pause", judgedMs: 4900, pauseMs: 200 },
    { name: "forgotten later: it pauses as for the first time", judgedMs: 4899, pauseMs: 100 },
  ])("is $name", async ({ judgedMs, pauseMs }) => {
    const turns = new Turns();
    await vi.advanceTimersByTimeAsync(judgedMs);
    await turns.take("key");
    turns.leave("key", false); // it pauses for 100 ms
    await vi.advanceTimersByTimeAsync(10_000 - judgedMs);
    await turns.take("key");
    turns.leave("key", false);
    await vi.advanceTimersByTimeAsync(pauseMs - 1);
    expect(await comesTo(0, turns.take("key"))).toBe("pending");
    await vi.advanceTimersByTimeAsync(1);
    expect(await comesTo(0, turns.take("key"))).toBe(true);
  });

  test("is kept while it is taken, however long that is", async () => {
    const turns = new Turns();
    await turns.take("key");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await comesTo(100, turns.take("key"))).toBe(false);
    turns.leave("key", true);
    expect(await comesTo(0, turns.take("key"))).toBe(true);
  });

  test("is kept while others wait for it, though the server itself stood still meanwhile", async () => {
    const turns = new Turns();
    await vi.advanceTimersByTimeAsync(4990);
    await turns.take("key");
    const second = turns.take("key");
    turns.leave("key", false);
    const now = performance.now();
    const clock = vi.spyOn(performance, "now").mockReturnValue(now + 60_000);
    expect(await comesTo(10, second), "the old are forgotten now").toBe("pending");
    expect(await comesTo(90, second)).toBe(true);
    turns.leave("key", true);
    clock.mockRestore();
  });

  test("of many: more than 4,096 that wait are told at once", async () => {
    const turns = new Turns();
    await turns.take("key");
    const waiting = Array.from({ length: 4096 }, () => turns.take("key"));
    expect(await comesTo(0, turns.take("key"))).toBe(false);
    expect(await comesTo(0, turns.take("another key"))).toBe(true);
    await vi.advanceTimersByTimeAsync(3000);
    expect((await Promise.all(waiting)).every((taken) => !taken)).toBe(true);
    const later = turns.take("key");
    expect(await comesTo(99, later), "none waits any more").toBe("pending");
  });
});

describe("calls of one key", () => {
  /** Calls that end when the test says so. */
  function calls() {
    const begun: PromiseWithResolvers<string>[] = [];
    const make = () => {
      const call = Promise.withResolvers<string>();
      begun.push(call);
      return call.promise;
    };
    return { begun, make, shared: new SharedCalls<string>() };
  }

  test("that are made meanwhile share the next one, which begins after them", async () => {
    const { begun, make, shared } = calls();
    const first = shared.share("key", make);
    const meanwhile = [shared.share("key", make), shared.share("key", make)];
    begun[0]?.resolve("old");
    expect(await first).toBe("old");
    const inThePause = shared.share("key", make);
    await until("the next one has begun", () => begun.length === 2);
    begun[1]?.resolve("new");
    expect(await Promise.all([...meanwhile, inThePause])).toEqual(["new", "new", "new"]);
    void shared.share("key", make);
    expect(begun, "nobody is asked: this one begins at once").toHaveLength(3);
  });

  test("fail for those who asked before, and not for those who asked meanwhile", async () => {
    const { begun, make, shared } = calls();
    const first = shared.share("key", make);
    const second = shared.share("key", make);
    begun[0]?.reject(new Error("gone"));
    await expect(first).rejects.toThrow("gone");
    await until("the next one has begun", () => begun.length === 2);
    begun[1]?.resolve("here");
    expect(await second).toBe("here");
  });

  test("of another key are made at once", () => {
    const { begun, make, shared } = calls();
    void shared.share("one", make);
    void shared.share("two", make);
    expect(begun).toHaveLength(2);
  });
});
