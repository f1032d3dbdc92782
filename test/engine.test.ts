// What the engine says: in which API version it is asked, and in which order it answers. A stand-in
// shows each case of versions; a real engine that refuses old ones is in test/lab.
import { describe, expect, test } from "vitest";
import { type Container, DockerEngine, EngineApi } from "../server/engine.ts";
import { id, StandIn, TOO_OLD } from "./engine-stand-in.ts";

const mounts = ["/data", "/run/authproxy"].map((Destination) => ({ Destination, RW: false }));

test.each([
  { order: "as they stand in the policy", given: mounts },
  { order: "the other way round", given: mounts.toReversed() },
])("mounts are sorted by destination: $order", async ({ given }) => {
  // The real engine gives Mounts in another order at each answer (seen: 12 of 100 differ).
  await using engine = await StandIn.start({ container: { Mounts: given } });
  expect((await new DockerEngine(engine.socket).inspect(id)).Mounts).toEqual(mounts);
});

test("what the engine leaves out is empty", async () => {
  await using engine = await StandIn.start({ container: { Mounts: null } });
  expect(await new DockerEngine(engine.socket).inspect(id)).toMatchObject({ Args: [], Mounts: [] });
});

test("no value of the environment is in the JSON of a container, and its names are", async () => {
  const Env = ["PASSWORD=the-secret", "EMPTY=", "odd"];
  await using engine = await StandIn.start({ container: { Config: { Env } } });
  const container = await new DockerEngine(engine.socket).inspect(id);
  expect([...(container.Config.Env ?? [])]).toEqual(Env);
  expect(JSON.stringify(container)).not.toContain("the-secret");
  expect(JSON.stringify(container.Config.Env)).toBe('["PASSWORD=…","EMPTY=…","odd=…"]');
});

test("another container than the one that was asked for is not taken for it", async () => {
  await using engine = await StandIn.start({ container: { Id: "b".repeat(64) } });
  await expect(new DockerEngine(engine.socket).inspect(id)).rejects.toMatchObject({
    reason: "engine",
    detail: { asked: id, answered: "b".repeat(64) },
  });
});

test.each([
  { engine: "Docker 20.10", oldest: "1.12", newest: "1.41", chosen: "1.41" },
  { engine: "Docker 28.5", oldest: "1.24", newest: "1.51", chosen: "1.51" },
  { engine: "Docker 29.0, which refuses 1.41", oldest: "1.44", newest: "1.52", chosen: "1.51" },
  { engine: "an engine with one version only", oldest: "1.47", newest: "1.47", chosen: "1.47" },
  { engine: "a newer one than any tested", oldest: "1.40", newest: "1.99", chosen: "1.51" },
])("$engine is asked in API version $chosen", async ({ oldest, newest, chosen }) => {
  await using engine = await StandIn.start({ oldest, newest });
  const api = new EngineApi(engine.socket);
  await api.get("/containers/a/json");
  await api.get("/containers/b/json");
  expect(engine.asked).toEqual([
    "/version",
    `/v${chosen}/containers/a/json`,
    `/v${chosen}/containers/b/json`,
  ]);
});

test.each([
  { engine: "newer than all that are known", oldest: "1.60", newest: "1.70", asked: "1.51" },
  { engine: "older than all that are known", oldest: "1.12", newest: "1.40", asked: "1.41" },
])("an engine that is $engine is quoted in the reason", async ({ oldest, newest, asked }) => {
  await using engine = await StandIn.start({ oldest, newest });
  const inspecting = new DockerEngine(engine.socket).inspect(id);
  await expect(inspecting).rejects.toMatchObject({
    reason: "engine",
    detail: { status: 400, message: TOO_OLD(asked, oldest) },
  });
});

test("an engine that refuses its former version, since another replaced it, is asked again", async () => {
  await using engine = await StandIn.start({ oldest: "1.24", newest: "1.43" });
  const api = new EngineApi(engine.socket);
  expect((await api.get("/containers/a/json")).status).toBe(200);
  Object.assign(engine, { oldest: "1.44", newest: "1.51" });
  expect((await api.get("/containers/b/json")).status).toBe(200);
  expect(engine.asked.at(-1)).toBe("/v1.51/containers/b/json");
});

test("an engine that answers null at first is asked again which versions it has", async () => {
  await using engine = await StandIn.start();
  engine.versions = "null";
  const api = new EngineApi(engine.socket);
  await expect(api.get("/containers/a/json")).rejects.toMatchObject({ reason: "engine" });
  engine.versions = undefined;
  expect((await api.get("/containers/a/json")).status).toBe(200);
});

test("an engine that was away is asked again which versions it has", async () => {
  await using engine = await StandIn.start({ newest: "1.43" });
  const api = new EngineApi(engine.socket);
  await api.get("/containers/a/json");
  await engine.stop();
  await expect(api.get("/containers/a/json")).rejects.toThrow("engine");
  engine.newest = "1.51";
  await engine.listen();
  await api.get("/containers/b/json");
  expect(engine.asked.slice(-2)).toEqual(["/version", "/v1.51/containers/b/json"]);
});

describe("the labels that an image declares", () => {
  const digest = "sha256:1";
  const CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]];
  const labelled = (Labels: object | null) => ({ Config: { Labels } });
  const plain = { [`${digest}/json`]: labelled({ app: "app" }) };
  const platform = { architecture: "arm64", os: "linux" };
  const manifest = { digest: "sha256:2", platform };

  /** What the engine says of the image of a container, and how often it was asked. */
  async function labelsOf(engine: StandIn, container: object = {}) {
    const known = new DockerEngine(engine.socket);
    const asking = { Image: digest, ...container } as Container;
    return [await known.imageLabels(asking), await known.imageLabels(asking)];
  }

  test("are asked once for a digest", async () => {
    await using engine = await StandIn.start({ images: plain });
    const all = { labels: { app: "app" }, areOfManifest: true };
    expect(await labelsOf(engine)).toEqual([all, all]);
    expect(engine.asked.filter((url) => url.includes("/images/"))).toHaveLength(1);
  });

  test.each([
    { name: "no labels", image: labelled(null) },
    { name: "no configuration", image: { Config: null } },
    { name: "nothing", image: {} },
  ])("are none where the engine says $name", async ({ image }) => {
    await using engine = await StandIn.start({ images: { [`${digest}/json`]: image } });
    expect((await labelsOf(engine))[0]).toEqual({ labels: {}, areOfManifest: true });
  });

  test("are not known where the image is gone, and asked again then", async () => {
    await using engine = await StandIn.start();
    expect(await labelsOf(engine)).toEqual([undefined, undefined]);
    expect(engine.asked.filter((url) => url.includes("/images/"))).toHaveLength(2);
  });

  test("are those of the platform that runs, from API 1.49 on", async () => {
    const images = {
      ...plain,
      [`${digest}/json?platform=${JSON.stringify(platform)}`]: labelled({ app: "other" }),
    };
    await using engine = await StandIn.start({ images, driverStatus: CONTAINERD, newest: "1.49" });
    const container = { ImageManifestDescriptor: manifest };
    const all = { labels: { app: "other" }, areOfManifest: true };
    expect(await labelsOf(engine, container)).toEqual([all, all]);
  });

  test.each([
    { name: "in API 1.48, for one of several manifests", newest: "1.48", of: manifest },
    { name: "in API 1.47, which names no manifest", newest: "1.47", of: undefined },
    { name: "of a container from before an upgrade", newest: "1.51", of: undefined },
    { name: "of a manifest without a platform", newest: "1.51", of: { digest: "sha256:2" } },
    { name: "where the engine says null", newest: "1.51", of: null },
  ])("may be another manifest's in containerd's store: $name", async ({ newest, of }) => {
    await using engine = await StandIn.start({ images: plain, driverStatus: CONTAINERD, newest });
    const [known] = await labelsOf(engine, { ImageManifestDescriptor: of });
    expect(known).toEqual({ labels: { app: "app" }, areOfManifest: false });
  });

  test("are the manifest's in API 1.48, where the image is no index", async () => {
    await using engine = await StandIn.start({
      images: plain,
      driverStatus: CONTAINERD,
      newest: "1.48",
    });
    const [known] = await labelsOf(engine, { ImageManifestDescriptor: { ...manifest, digest } });
    expect(known).toMatchObject({ areOfManifest: true });
  });

  test("are the image's where an engine says nothing of its store", async () => {
    await using engine = await StandIn.start({ images: plain, driverStatus: null });
    const [known] = await labelsOf(engine, { Driver: "btrfs" });
    expect(known).toMatchObject({ areOfManifest: true });
  });

  test.each([
    { Driver: "overlay2", isAsked: false },
    { Driver: "overlay", isAsked: false }, // Podman's
    { Driver: "vfs", isAsked: false },
    { Driver: "overlayfs", isAsked: true },
    { Driver: "btrfs", isAsked: true },
    { Driver: undefined, isAsked: true },
  ])("need the engine's info, which is slow, or not: $Driver", async ({ Driver, isAsked }) => {
    await using engine = await StandIn.start({ images: plain });
    const [known] = await labelsOf(engine, { Driver });
    expect(known).toMatchObject({ areOfManifest: true });
    expect(engine.asked.includes("/v1.51/info")).toBe(isAsked);
  });

  test("are remembered of so many images, and not where they are long", async () => {
    const names = Array.from({ length: 300 }, (_, i) => `sha256:${i}`);
    const images = Object.fromEntries(names.map((name) => [`${name}/json`, labelled({ name })]));
    const long = labelled({ name: "x".repeat(1 << 17) });
    await using engine = await StandIn.start({ images: { ...images, "sha256:long/json": long } });
    const known = new DockerEngine(engine.socket);
    const ask = async (Image: string) => {
      const before = engine.asked.length;
      await known.imageLabels({ Image } as Container);
      return engine.asked.length > before;
    };
    for (const name of names) await ask(name);
    expect(await ask("sha256:299")).toBe(false);
    expect(await ask("sha256:0")).toBe(true);
    await ask("sha256:long");
    expect(await ask("sha256:long")).toBe(true);
  });
});

test("an answer that is longer than is read is refused, and not asked for again", async () => {
  await using engine = await StandIn.start({ container: { Name: "x".repeat(1 << 22) } });
  const known = new DockerEngine(engine.socket);
  const path = `/v1.51/containers/${id}/json`;
  for (let i = 0; i < 2; i++)
    await expect(known.inspect(id)).rejects.toMatchObject({
      reason: "too-large",
      detail: { path: expect.stringMatching(`/containers/${id}/json$`) },
      canRetry: false,
    });
  expect(engine.asked).toEqual(["/version", path]);
});

test("an answer without an id is not taken for a container", async () => {
  await using engine = await StandIn.start({ container: { Id: {} } });
  const known = new DockerEngine(engine.socket);
  await expect(known.inspect(id)).rejects.toMatchObject({
    detail: { asked: id, answered: "[object Object]" },
  });
});
