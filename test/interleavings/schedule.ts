// Question: does everything hold, in this order of steps?
//
// First whatever the plan says happens; then nothing fails any more, and what must hold in the end is
// checked.
import type { Scheduler } from "fast-check";
import { setWorld } from "./edges.ts";
import { startServer } from "./server.ts";
import { macrotask, type Plan, type Process, STATE, TTL_SECONDS, World } from "./world.ts";

const STEPS_MAX = 1500;
/** Until then everything is done that can be done: the server tries to log in again after a minute at
 * most, and a container's turn comes after five seconds at most. */
const ROUNDS = 15;
const ROUND_MS = 5_200;
/** A token that was about to die when the troubles ended may have died. */
const RENEWAL_MS = 80_000;

let current: World | undefined;

process.on("unhandledRejection", (error) => current?.onUncaught(error));

/** Throws an Error that says what does not hold, and in which order of steps. */
export async function runSchedule(plan: Plan, scheduler: Scheduler): Promise<void> {
  const world = new World(plan, scheduler, startServer);
  current = world;
  setWorld(world);
  world.begin();
  await drain(world, scheduler);
  world.calmDown();
  await bringToRest(world, scheduler);
  if (world.violation) throw new Error(`${world.violation.message}\n${world.trace.join("\n")}`);
}

async function drain(world: World, scheduler: Scheduler): Promise<void> {
  for (let steps = 0; world.hasSteps() && !world.violation; steps++) {
    await scheduler.waitOne();
    await macrotask();
    await world.passing;
    world.settle();
    if (steps > STEPS_MAX) world.violate("the steps do not come to an end");
  }
}

async function bringToRest(world: World, scheduler: Scheduler): Promise<void> {
  const finish = () => drain(world, scheduler);
  const diesSoonMs = world.nowMs + RENEWAL_MS;
  const safe = world.tokens.filter((token) => world.isLiving(token) && token.diesMs > diesSoonMs);
  await finish();
  for (let round = 0; round < ROUNDS && !world.violation; round++) {
    world.askForAll();
    await finish();
    await world.pass(ROUND_MS, finish);
  }
  if (world.violation) return;
  requireAnswers(world);
  requireTokens(world, "is quiet", ({ isKnown }) => isKnown);
  requireFiles(world);

  const owned = world.tokens.filter(
    (token) =>
      token.sentTo?.isAlive &&
      (world.isLiving(token) || (safe.includes(token) && !token.isRevoked)),
  );
  await world.pass(2 * TTL_SECONDS * 1000, finish);
  if (world.violation) return;
  requireTokens(world, "was quiet for longer than a token lives", () => true);
  for (const token of owned)
    if (!world.isLiving(token)) world.violate(`${token.accessor} has died before its process`);
}

/** Every honest peer is answered. */
function requireAnswers(world: World): void {
  const { life } = world;
  if (!life.isAlive) world.violate("the server does not run in the end");
  if (life.isStopping) world.violate("the server does not stop");
  for (const process of world.processes.values()) {
    const { start, container, hasToken, connections, isRefused } = process;
    const name = world.nameOf(process);
    if (connections.size > 0) world.violate(`${name} waits for its answer`);
    if (hasToken || process !== start.init || container.kind === "wrong-role") continue;
    const isAlone = world.inContainer(container).length === 1;
    const hasShared = container.kind === "relaxed" && start.hasForked;
    if (isAlone && !hasShared && start.disturbances <= 2)
      world.violate(`${name} has no token in the end${isRefused ? ": it was refused" : ""}`);
  }
}

/** Those that Vault holds belong to living processes, and no process has two. */
function requireTokens(world: World, when: string, must: (token: World["tokens"][0]) => boolean) {
  const owners = new Set<unknown>();
  for (const token of world.tokens) {
    if (!world.isLiving(token)) continue;
    const { accessor } = token;
    const owner = token.sentTo ?? perhapsSentTo(world, accessor);
    const what = `${accessor} lives when everything ${when}`;
    if (!owner && must(token)) world.violate(`${what}, and was sent to nobody`);
    if (owner && !owner.isAlive) world.violate(`${what}, and its process is dead`);
    if (owner && owners.has(owner.start)) world.violate(`${what}, and is not its start's only one`);
    if (owner) owners.add(owner.start);
  }
}

/** A crash came between the sending and its note: the server cannot know better. */
function perhapsSentTo(world: World, accessor: string): Process | undefined {
  for (const text of world.files.values()) {
    const lease = JSON.parse(text);
    const holder = world.processes.get(lease.pid);
    if (lease.accessor === accessor && lease.stage === "sending" && holder?.ticks === lease.ticks)
      return holder;
  }
  return undefined;
}

/** Of the dead, and of what was not sent, nothing is left. */
function requireFiles(world: World): void {
  const starts = [...world.processes.values()].map(({ start }) => start.name);
  for (const [path, text] of world.files) {
    const { stage } = JSON.parse(text);
    const isOfLiving = starts.some((name) => path.startsWith(`${STATE}/${name}`));
    if (!isOfLiving) world.violate(`the file ${path} of a start that has ended is left (${stage})`);
    if (stage === "minting" || stage === "revoking") world.violate(`${path} is left: ${stage}`);
  }
}
