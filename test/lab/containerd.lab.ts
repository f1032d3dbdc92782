// Question: does each containerd say of a pod's container what the server needs?
// Input:    this machine's, and Debian's newer ones beside it (scripts/debian.ts).
// Output:   with AUTHPROXY_CAPTURE=1 their answers, kept in test/fixtures/cri, which cri.test.ts reads
//           without any engine.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fetchTree, type Suite } from "../../scripts/debian.ts";
import { CriEngine } from "../../server/cri.ts";
import { Containerd, type Fields } from "../containerd.ts";
import type { Recording } from "../cri-stand-in.ts";
import { compile } from "../programs.ts";

const folder = join(import.meta.dirname, "../fixtures/cri");

test.each<[string, Suite | undefined]>([
  ["1.6", undefined],
  ["1.7", "trixie"],
  ["2.", "sid"],
])(
  "containerd %s: a pod's container is known by image, command and namespace",
  async (begins, suite) => {
    const tree = suite && (await fetchTree(suite, ["runc", "containerd"])).path;
    const containerd = await Containerd.start(compile("pod"), tree);
    try {
      const version = await containerd.version();
      expect(version.startsWith(begins)).toBe(true);
      const pod = await containerd.pod({ app: "web" });
      const id = await containerd.container(pod, containerd.usual(pod));
      expect(await new CriEngine(containerd.socket).inspect(id)).toMatchObject({
        Id: id,
        Image: containerd.image,
        Path: "/program",
        pod: { namespace: "shop", container: "app", uid: pod.uid },
      });
      if (!process.env.AUTHPROXY_CAPTURE) return;
      const requests: Record<string, Fields> = {
        "RuntimeService/ContainerStatus": { 1: id, 2: true },
        "RuntimeService/PodSandboxStatus": { 1: pod.sandbox },
        "ImageService/ImageStatus": { 1: { 1: containerd.image } },
      };
      const answers: Record<string, string> = {};
      for (const [method, request] of Object.entries(requests))
        answers[method] = (await containerd.call(method, request)).toString("base64");
      const { image, manifest } = containerd;
      const recording: Recording = { version, id, uid: pod.uid, image, manifest, answers };
      const [major, minor] = version.split(".");
      mkdirSync(folder, { recursive: true });
      const file = join(folder, `containerd-${major}.${minor}.json`);
      writeFileSync(file, `${JSON.stringify(recording, null, 2)}\n`);
    } finally {
      await containerd.stop();
    }
  },
);
