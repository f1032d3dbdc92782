// Question: what does a client do that is written as one would write it first?
// Input:    JavaScript that goes on with `grant`, the server's answer.
// Output:   a command for an image with Node. It asks, and checks nothing.
import { SOCKET } from "./arena.ts";

export function naiveClient(then: string): string[] {
  const ask = `require("node:net").connect("${SOCKET}").setEncoding("utf8").toArray()`;
  return [
    "node",
    "-e",
    `${ask}.then((parts) => { const grant = JSON.parse(parts.join("")); ${then} });`,
  ];
}
