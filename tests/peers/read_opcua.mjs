// Reads OPC UA nodes once with node-opcua and prints {nodeId: {value, sourceTimestamp, statusCode}} as JSON.
// Started by tests/support/peers.py to compare our own OPC UA parts with an independent implementation.
// Usage: node read_opcua.mjs ENDPOINT < node-ids.json     (a JSON list of node identifiers such as "ns=2;s=Press.Ram.Force")
// 64-bit integers are printed as {"int64": "decimal digits"}, JSON numbers cannot carry them; the client's key and certificate live in a
// temporary folder that is removed at the end. Ends with code 1 and one line on standard error when anything fails.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import certificateManager from "node-opcua-certificate-manager";
import client from "node-opcua-client";

// Both are CommonJS: their names are not visible to a named import.
const { OPCUACertificateManager } = certificateManager;
const { AttributeIds, DataType, MessageSecurityMode, OPCUAClient, SecurityPolicy } = client;

// node-opcua logs to standard output, which is for the answer.
console.log = console.error;

const DEADLINE_MS = 20_000;

function plain(variant) {
  if (!variant || variant.value === null || variant.value === undefined) return null;
  if (variant.dataType === DataType.Int64 || variant.dataType === DataType.UInt64) {
    const [high, low] = variant.value; // two unsigned 32-bit halves
    const whole = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return { int64: (variant.dataType === DataType.Int64 ? BigInt.asIntN(64, whole) : whole).toString() };
  }
  return variant.value;
}

async function main(endpoint, nodeIds) {
  const folder = mkdtempSync(join(tmpdir(), "read-opcua-"));
  const certificates = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  try {
    await certificates.initialize();
    const connection = OPCUAClient.create({
      endpointMustExist: false,
      securityMode: MessageSecurityMode.None,
      securityPolicy: SecurityPolicy.None,
      clientCertificateManager: certificates,
      connectionStrategy: { maxRetry: 0, initialDelay: 200 },
      requestedSessionTimeout: 20_000,
    });
    await connection.connect(endpoint);
    try {
      const session = await connection.createSession();
      const values = await session.read(nodeIds.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })));
      const answer = {};
      values.forEach((dataValue, index) => {
        answer[nodeIds[index]] = {
          value: plain(dataValue.value),
          sourceTimestamp: dataValue.sourceTimestamp ? dataValue.sourceTimestamp.toISOString() : null,
          statusCode: dataValue.statusCode.name,
        };
      });
      await session.close();
      return answer;
    } finally {
      await connection.disconnect();
    }
  } finally {
    await certificates.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
}

const [endpoint] = process.argv.slice(2);
if (!endpoint) {
  console.error("usage: node read_opcua.mjs ENDPOINT < node-ids.json");
  process.exit(2);
}
setTimeout(() => {
  console.error(`read_opcua: no answer from ${endpoint} within ${DEADLINE_MS} ms`);
  process.exit(1);
}, DEADLINE_MS).unref();
try {
  const answer = await main(endpoint, JSON.parse(readFileSync(0, "utf8")));
  // Exit only once a pipe has taken all of it.
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
} catch (error) {
  console.error(`read_opcua: ${endpoint}: ${error.message}`);
  process.exit(1);
}
