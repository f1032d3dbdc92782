// Question: are the bundles that lie in dist/, and the hashes that README shows, those of this source?
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bundleClient } from "../scripts/build.ts";
import { block } from "./documents.ts";

test("dist/authproxy.js was built from this source", async () => {
  const { bytes } = await bundleClient();
  expect(statSync(join(import.meta.dirname, "../dist/authproxy.js")).size).toBe(bytes.length);
});

test("README shows the bundles' sha256", async () => {
  const java = await bundleClient("dist/authproxy-java.js");
  expect(block("README.md", "dist/authproxy-java.js")).toBe(
    `${(await bundleClient()).sha256}  dist/authproxy.js\n` +
      `${java.sha256}  dist/authproxy-java.js\n`,
  );
});
