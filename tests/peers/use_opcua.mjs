// Uses an OPC UA server with node-opcua: browses a tree and reads every variable in it, subscribes, writes.
// Started by tests/integration/vplc_servers/server_site.py. Usage: node use_opcua.mjs < request.json; the answer is one JSON object.
//   {"endpoint": "...", "policy": "Basic256Sha256" | null, "user": {"name", "password"} | null, "certificates": "DIR" | null,
//    "browse": "ns=2;i=5001" | null, "read": ["ns=4;s=..."], "write": [{"id", "type", "value", "array"}],
//    "subscribe": {"ids": [...], "seconds": 1}, "namespaces": true}
// 64-bit integers are printed as {"int64": "decimal digits"}. Ends with code 1 and one line on standard error on failure.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import certificateManager from "node-opcua-certificate-manager";
import client from "node-opcua-client";

const { OPCUACertificateManager } = certificateManager;
const {
  AttributeIds, BrowseDirection, ClientMonitoredItem, ClientSubscription, DataType, MessageSecurityMode, NodeClass, OPCUAClient,
  SecurityPolicy, TimestampsToReturn, UserTokenType, VariantArrayType,
} = client;

// node-opcua logs to standard output, which is for the answer.
console.log = console.error;
console.warn = console.error;
const DEADLINE_MS = 60_000;

const big = ([high, low]) => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);

function element(value, dataType) {
  if (value === null || value === undefined) return null;
  if (dataType === DataType.Int64) return { int64: BigInt.asIntN(64, big(value)).toString() };
  if (dataType === DataType.UInt64) return { int64: big(value).toString() };
  if (dataType === DataType.ExtensionObject) return fields(value);
  if (value instanceof Date) return value.toISOString();
  return value;
}

// A decoded structure as plain fields; pairs of unsigned halves are 64-bit integers.
function fields(value) {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const list = Array.from(value);
    if (!ArrayBuffer.isView(value) && list.length === 2 && list.every((v) => Number.isInteger(v) && v >= 0)) {
      return { int64: BigInt.asIntN(64, big(list)).toString() };
    }
    return list.map(fields);
  }
  if (value && typeof value === "object" && !(value instanceof Date)) {
    if (value.constructor?.name === "OpaqueStructure") return { opaque: true };
    const answer = {};
    for (const name of Object.keys(value)) {
      if (name !== "schema" && typeof value[name] !== "function") answer[name] = fields(value[name]);
    }
    return answer;
  }
  return value;
}

function plain(variant) {
  if (!variant || variant.value === null || variant.value === undefined) return null;
  if (variant.arrayType === VariantArrayType.Scalar || variant.arrayType === undefined) return element(variant.value, variant.dataType);
  return Array.from(variant.value, (v) => element(v, variant.dataType));
}

function shown(dataValue) {
  return {
    value: plain(dataValue.value),
    type: dataValue.value ? DataType[dataValue.value.dataType] : null,
    dimensions: dataValue.value?.dimensions ?? null,
    status: dataValue.statusCode.name,
    source: dataValue.sourceTimestamp ? dataValue.sourceTimestamp.toISOString() : null,
  };
}

async function browse(session, root) {
  const seen = new Map();
  let level = [{ id: root, path: "" }];
  while (level.length) {
    const results = await session.browse(
      level.map(({ id }) => ({
        nodeId: id, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, browseDirection: BrowseDirection.Forward,
        nodeClassMask: 0, resultMask: 63,
      })),
    );
    const next = [];
    results.forEach((result, index) => {
      for (const reference of result.references ?? []) {
        const id = reference.nodeId.toString();
        if (seen.has(id)) continue;
        const path = `${level[index].path}/${reference.browseName.name}`;
        seen.set(id, {
          path, class: NodeClass[reference.nodeClass], reference: reference.referenceTypeId.toString(),
          type: reference.typeDefinition?.toString() ?? null,
        });
        next.push({ id, path });
      }
    });
    level = next;
  }
  return seen;
}

async function subscribe(session, { ids, seconds }) {
  const subscription = ClientSubscription.create(session, {
    requestedPublishingInterval: 100, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
    maxNotificationsPerPublish: 1000, publishingEnabled: true, priority: 1,
  });
  const heard = Object.fromEntries(ids.map((id) => [id, []]));
  for (const id of ids) {
    const item = ClientMonitoredItem.create(
      subscription, { nodeId: id, attributeId: AttributeIds.Value }, { samplingInterval: 50, discardOldest: true, queueSize: 100 },
      TimestampsToReturn.Both,
    );
    item.on("changed", (dataValue) => heard[id].push(shown(dataValue)));
  }
  await new Promise((done) => setTimeout(done, seconds * 1000));
  await subscription.terminate();
  return heard;
}

async function main(request) {
  const folder = request.certificates ?? mkdtempSync(join(tmpdir(), "use-opcua-"));
  const certificates = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  try {
    await certificates.initialize();
    const connection = OPCUAClient.create({
      applicationName: "sluice-peer",
      endpointMustExist: false,
      securityMode: request.policy ? MessageSecurityMode.SignAndEncrypt : MessageSecurityMode.None,
      securityPolicy: request.policy ? SecurityPolicy[request.policy] : SecurityPolicy.None,
      clientCertificateManager: certificates,
      connectionStrategy: { maxRetry: 0, initialDelay: 200 },
      requestedSessionTimeout: 20_000,
    });
    await connection.connect(request.endpoint);
    try {
      const identity = request.user
        ? { type: UserTokenType.UserName, userName: request.user.name, password: request.user.password }
        : undefined;
      const session = await connection.createSession(identity);
      const answer = {};
      answer.namespaces = await session.readNamespaceArray();
      if (request.browse) {
        const nodes = await browse(session, request.browse);
        const variables = [...nodes].filter(([, node]) => node.class === "Variable").map(([id]) => id);
        await session.extractNamespaceDataType();
        for (let at = 0; at < variables.length; at += 500) {
          const part = variables.slice(at, at + 500);
          const values = await session.read(part.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })));
          values.forEach((value, index) => Object.assign(nodes.get(part[index]), shown(value)));
        }
        answer.nodes = Object.fromEntries(nodes);
      }
      if (request.read) {
        await session.extractNamespaceDataType();
        const values = await session.read(request.read.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })));
        answer.read = Object.fromEntries(values.map((value, index) => [request.read[index], shown(value)]));
      }
      if (request.write) {
        answer.write = [];
        for (const { id, type, value, array } of request.write) {
          const given = {
            nodeId: id, attributeId: AttributeIds.Value,
            value: { value: { dataType: DataType[type], arrayType: array ? VariantArrayType.Array : VariantArrayType.Scalar, value } },
          };
          answer.write.push((await session.write(given)).name);
        }
      }
      if (request.subscribe) answer.heard = await subscribe(session, request.subscribe);
      await session.close();
      return answer;
    } finally {
      await connection.disconnect();
    }
  } finally {
    await certificates.dispose();
    if (!request.certificates) rmSync(folder, { recursive: true, force: true });
  }
}

setTimeout(() => {
  console.error(`use_opcua: no answer within ${DEADLINE_MS} ms`);
  process.exit(1);
}, DEADLINE_MS).unref();
try {
  const answer = await main(JSON.parse(readFileSync(0, "utf8")));
  // Exit only once a pipe has taken all of it.
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
} catch (error) {
  console.error(`use_opcua: ${error.message}`);
  process.exit(1);
}
