// DequeuedMessages as a supervisor sends them, and their keys.
import { randomBytes } from "node:crypto";

let serial = 0;
const nonce = randomBytes(3).toString("hex");

/** A deployment, version and machine that no other call of this process returns. */
export function makeKey(overrides = {}) {
  return {
    deployment: `deployment_${nonce}${(serial++).toString(36).padStart(8, "0")}`,
    version: "20260715.3",
    cpu: 0.5,
    memory: 0.25,
    ...overrides,
  };
}

/** A message for `key`, its run id unique in this process. About 1.5 KB, like a real one. */
export function makeMessage(key, { waitpoints = [], annotations } = {}) {
  const id = `${nonce}${(serial++).toString(36).padStart(10, "0")}`;
  const at = new Date().toISOString();
  return {
    version: "1",
    snapshot: {
      id: `cmsnap${id}`,
      friendlyId: `snapshot_${id}`,
      executionStatus: "PENDING_EXECUTING",
      description: "Run was dequeued for execution",
      createdAt: at,
    },
    dequeuedAt: at,
    workerQueueLength: 3,
    image: `registry.internal:5000/trigger/proj_abc:${key.version}.production.1a2b3c4d@sha256:${"5f".repeat(32)}`,
    completedWaitpoints: waitpoints,
    backgroundWorker: {
      id: `cmworker${id}`,
      friendlyId: "worker_a1b2c3d4e5f6g7h8i9j0k",
      version: key.version,
      runtime: "node-24",
    },
    deployment: { id: "cmdeployment0001", friendlyId: key.deployment, imagePlatform: "linux/amd64" },
    run: {
      id: `cmrun${id}`,
      friendlyId: `run_${id}`,
      isTest: false,
      isReplay: false,
      machine: { name: "small-1x", cpu: key.cpu, memory: key.memory, centsPerMs: 0.0000338 },
      attemptNumber: 1,
      masterQueue: "self-hosted",
      traceContext: {
        traceparent: `00-${randomBytes(16).toString("hex")}-${randomBytes(8).toString("hex")}-01`,
        tracestate: "",
      },
      annotations: annotations ?? {
        triggerSource: "sdk",
        triggerAction: "trigger",
        rootTriggerSource: "schedule",
        taskKind: "STANDARD",
      },
    },
    environment: { id: "cmenvironment0001", type: "PRODUCTION" },
    organization: { id: "cmorganization0001", hasPrivateLink: false },
    project: { id: "cmproject0001" },
    placementTags: [{ key: "tier", values: ["paid"] }],
  };
}

export function makeWaitpoint(output) {
  const id = `${nonce}${(serial++).toString(36)}`;
  return {
    id: `cmwaitpoint${id}`,
    friendlyId: `waitpoint_${id}`,
    type: "RUN",
    index: 0,
    completedAt: new Date().toISOString(),
    completedByTaskRun: { id: `cmchild${id}`, friendlyId: `run_child${id}` },
    output,
    outputType: "application/json",
    outputIsError: false,
  };
}
