// A stand-in of node:child_process for server/keeper.ts: "forks" a program into this very process.
import { EventEmitter } from "node:events";

export function fork(program) {
  const child = Object.assign(new EventEmitter(), {
    send: (message) => setImmediate(() => process.emit("message", message)),
  });
  process.send = (message) => setImmediate(() => child.emit("message", message));
  import(program);
  return child;
}
