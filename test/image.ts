// Question: how does a test put programs of this machine into an image?
// Input:    the files by their paths in the image; an image to add them to.
// Output:   the image's name. `librariesOf` and `python` say which files a program is made of.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";
import { librariesOf as pathsOf } from "../scripts/images.ts";
import { buildImage } from "./stage.ts";

/** Where each file of the image comes from, by its path in the image. */
export type Files = Record<string, string>;

const directory = mkdtempSync(join(tmpdir(), "authproxy-image-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Its user is 1001; without an entrypoint it has that of the image below. */
export async function imageOf(
  name: string,
  base: string,
  files: Files,
  entrypoint?: string[],
): Promise<string> {
  const context = mkdtempSync(join(directory, "context-"));
  for (const [path, source] of Object.entries(files)) {
    const target = join(context, "root", path);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(source, target, { recursive: true, dereference: true });
  }
  const lines = [`FROM ${base}`, "COPY root /", "USER 1001:1001", "CMD []"];
  if (entrypoint) lines.push(`ENTRYPOINT ${JSON.stringify(entrypoint)}`);
  writeFileSync(join(context, "Dockerfile"), `${lines.join("\n")}\n`);
  return await buildImage(name, context, "Dockerfile", "unused");
}

/** What the loader would load with the program, and the loader (ldd(1)). */
export function librariesOf(program: string): Files {
  return Object.fromEntries(pathsOf(program).map((path) => [path, path]));
}

export const python = "/usr/bin/python3";

/** The interpreter with its own library, less what no service needs. */
export function pythonFiles(): Files {
  const ask = (script: string) => execFileSync(python, ["-c", script], { encoding: "utf8" }).trim();
  const library = ask("import os; print(os.path.dirname(os.__file__))");
  const tls = ask("import _ssl; print(_ssl.__file__)");
  const lean = join(directory, "python");
  const skipped = /\/(test|idlelib|ensurepip|lib2to3|dist-packages|__pycache__|config-[^/]*)$/;
  cpSync(library, lean, {
    recursive: true,
    dereference: true,
    filter: (path) => !skipped.test(path),
  });
  return { [python]: python, [library]: lean, ...librariesOf(python), ...librariesOf(tls) };
}
