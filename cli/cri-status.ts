// Question: does the engine of a Kubernetes node answer, and which handlers does it have?
// Source: CRI, k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, StatusResponse; containerd before 2.0 has its
// handlers in the verbose answer only.
import { GrpcClient } from "../server/grpc.ts";
import type { JsonObject } from "../server/json.ts";
import { Message } from "../server/protobuf.ts";

/** `handlers` is undefined where the engine does not say. */
export type NodeStatus = { isReady: boolean; handlers: string[] | undefined };

const VERBOSE = Buffer.of(0x08, 1);

/** Undefined where nothing answers at this socket. */
export async function criStatus(socketPath: string): Promise<NodeStatus | undefined> {
  let answer: Message;
  try {
    const service = new GrpcClient(socketPath);
    answer = new Message(await service.call("runtime.v1.RuntimeService/Status", VERBOSE));
  } catch {
    return undefined;
  }
  const conditions = answer.message(1).messages(1);
  const isReady = conditions.some(
    (condition) => condition.text(1) === "RuntimeReady" && condition.number(2) === 1,
  );
  const named = answer.messages(3).map((handler) => handler.text(1));
  return { isReady, handlers: named.length > 0 ? named : handlersInInfo(answer.map(2).config) };
}

function handlersInInfo(config: string | undefined): string[] | undefined {
  if (!config?.startsWith("{")) return undefined;
  const { containerd } = JSON.parse(config) as { containerd?: { runtimes?: JsonObject } };
  return containerd?.runtimes && Object.keys(containerd.runtimes);
}
