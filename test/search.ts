// Question: where in a container do these texts lie?
// Input:    a container that was started, running or not; texts, of random bytes, by their names.
// Places:   on the host's disk the layer that the container writes, and what the engine keeps about it;
//           every file system that is mounted in it, so every tmpfs; of each of its processes all memory
//           that is there (in swap too), all files in /proc, and the file behind each descriptor, with
//           a name or without. By itself, as it takes long: what `docker export` gives.
// Forms:    either half of a text, as it is, as UTF-16, in hexadecimal, and in base64 wherever a text
//           in which it stands begins.
// Not seen: what no file shows: the kernel's own memory, such as the buffers of sockets and pipes, and
//           pages that it has taken back and not given out again.
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  createReadStream,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";

const PAGE_BYTES = 4096;
const CHUNK_BYTES = 1 << 20;
/** No files of their own, or, as the root, seen in another way. */
const NO_FILES = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "overlay"];
/** Of /proc/PID: memory, which is read by its map, other ways to files, and the kernel's own. */
const NOT_TEXT = ["mem", "pagemap", "root", "cwd", "exe", "map_files", "ns", "fd", "clear_refs"];

export type Found = Record<string, string[]>;

/** The places of each text, sorted. */
export async function searchContainer(id: string, texts: Record<string, string>): Promise<Found> {
  const search = new Search(texts);
  const [about] = JSON.parse(execFileSync("docker", ["inspect", id], { encoding: "utf8" }));
  await search.tree("layer", about.GraphDriver.Data.UpperDir);
  await search.tree("engine", dirname(realpathSync(about.ResolvConfPath)));
  const pids = processesOf(id);
  const [first] = pids;
  if (first !== undefined) await searchMounts(search, first);
  for (const pid of pids) await searchProcess(search, pid);
  return search.found();
}

/** All layers, and files that mounts hide. */
export async function searchExport(id: string, texts: Record<string, string>): Promise<Found> {
  const search = new Search(texts);
  await search.stream("docker export", spawn("docker", ["export", id]).stdout);
  return search.found();
}

class Search {
  readonly #forms: [name: string, form: Buffer][];
  readonly #overlap: number;
  readonly #places: Record<string, Set<string>> = {};

  constructor(texts: Record<string, string>) {
    this.#forms = Object.entries(texts).flatMap(([name, text]) =>
      formsOf(text).map((form): [string, Buffer] => [name, form]),
    );
    this.#overlap = Math.max(...this.#forms.map(([, form]) => form.length)) - 1;
    for (const name of Object.keys(texts)) this.#places[name] = new Set();
  }

  bytes(place: string, bytes: Buffer): void {
    for (const [name, form] of this.#forms) {
      if (bytes.includes(form)) this.#places[name]?.add(place);
    }
  }

  async stream(place: string, source: AsyncIterable<Buffer>): Promise<void> {
    let last = Buffer.alloc(0);
    for await (const chunk of source) {
      const bytes = Buffer.concat([last, chunk]);
      this.bytes(place, bytes);
      last = bytes.subarray(-this.#overlap);
    }
  }

  /** All files below, on the same file system: another one is a mount of its own. */
  async tree(place: string, path: string, device = lstatSync(path).dev): Promise<void> {
    const seen = lstatSync(path, { throwIfNoEntry: false });
    if (seen?.dev !== device) return;
    if (seen.isFile()) {
      await this.stream(place, createReadStream(path, { highWaterMark: CHUNK_BYTES }));
    } else if (seen.isDirectory()) {
      for (const name of readdirSync(path))
        await this.tree(`${place}/${name}`, join(path, name), device);
    }
  }

  found(): Found {
    const sorted = Object.entries(this.#places).map(([name, places]) => [name, [...places].sort()]);
    return Object.fromEntries(sorted);
  }
}

function formsOf(text: string): Buffer[] {
  const middle = text.length >> 1;
  return [text.slice(0, middle), text.slice(middle)].flatMap((half) => [
    Buffer.from(half),
    Buffer.from(half, "utf16le"),
    Buffer.from(Buffer.from(half).toString("hex")),
    ...[0, 1, 2].map((before) => Buffer.from(base64After(before, half))),
  ]);
}

/** What of the base64 is the text's alone, where so many bytes stand before it. */
function base64After(before: number, text: string): string {
  const bytes = Buffer.from("\0".repeat(before) + text);
  const whole = bytes.toString("base64").replace(/=+$/, "");
  const end = bytes.length % 3 === 0 ? whole.length : whole.length - 1;
  return whole.slice([0, 2, 3][before], end);
}

/** Those in the container's cgroup, the first process first. */
function processesOf(id: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const inside = pids.filter((pid) => contentOf(`/proc/${pid}/cgroup`)?.includes(id));
  return inside.map(Number).sort((a, b) => innerPid(a) - innerPid(b));
}

/** Its number in its own pid namespace. */
function innerPid(pid: number): number {
  return Number(/^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

async function searchMounts(search: Search, pid: number): Promise<void> {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").trimEnd().split("\n");
  for (const line of lines) {
    const [mounted = "", source = ""] = line.split(" - ");
    const point = mounted.split(" ")[4] ?? "";
    if (NO_FILES.includes(source.split(" ", 1)[0] ?? "")) continue;
    await search.tree(point, join(`/proc/${pid}/root`, point));
  }
}

async function searchProcess(search: Search, pid: number): Promise<void> {
  const name = `process ${innerPid(pid)}`;
  searchProc(search, name, `/proc/${pid}`);
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${descriptor}`;
    search.bytes(`${name}/fd/${descriptor}`, Buffer.from(readlinkSync(path)));
    if (!statSync(path).isFile()) continue;
    await search.stream(`${name}/fd/${descriptor}`, createReadStream(path));
  }
  searchMemory(search, `${name}/memory`, pid);
}

function searchProc(search: Search, place: string, path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (NOT_TEXT.includes(entry.name)) continue;
    const inside = join(path, entry.name);
    // What a thread has for itself is told as its process's.
    const below = /\/task\/\d+$/.test(inside) ? place : `${place}/${entry.name}`;
    if (entry.isDirectory()) searchProc(search, entry.name === "task" ? place : below, inside);
    const content = entry.isFile() ? contentOf(inside) : undefined;
    if (content) search.bytes(below, content);
  }
}

/** Undefined where it cannot be read: some files of /proc are for writing, some processes end. */
function contentOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** proc_pid_pagemap(5): eight bytes a page; bit 63: in memory, bit 62: in swap. */
function searchMemory(search: Search, place: string, pid: number): void {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const pagemap = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").trimEnd().split("\n")) {
      // Pages of the kernel's own: time and its code.
      if (/\[(vvar|vvar_vclock|vdso|vsyscall)\]$/.test(line)) continue;
      const [start = 0, end = 0] = (line.split(" ", 1)[0] ?? "")
        .split("-")
        .map((text) => Number.parseInt(text, 16));
      const entries = Buffer.alloc(((end - start) / PAGE_BYTES) * 8);
      readSync(pagemap, entries, 0, entries.length, (start / PAGE_BYTES) * 8);
      const isThere = (page: number) => ((entries[page * 8 + 7] ?? 0) & 0xc0) !== 0;
      const pages = entries.length / 8;
      for (let page = 0; page < pages; page++) {
        if (!isThere(page)) continue;
        const from = page;
        while (page < pages && isThere(page)) page++;
        const bytes = Buffer.alloc((page - from) * PAGE_BYTES);
        const count = readSync(memory, bytes, 0, bytes.length, start + from * PAGE_BYTES);
        if (count !== bytes.length) throw new Error(`read ${count} of ${bytes.length}: ${line}`);
        search.bytes(place, bytes);
      }
    }
  } finally {
    closeSync(memory);
    closeSync(pagemap);
  }
}
