// An identity provider of somebody else's making, for the tests of logging in at one: npm's oidc-provider.
// Reads one line of JSON {clients, people: {login: claims}} and prints the issuer; ends with its standard input.
// Its built-in log-in page takes any password: what is tested is our side.
import http from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const lines = createInterface({ input: process.stdin });
const told = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
process.stdin.on("end", () => process.exit(0)).resume();

const server = http.createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: told.clients,
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  findAccount: (_context, sub) =>
    told.people[sub] && { accountId: sub, claims: () => ({ sub, ...told.people[sub] }) },
});
server.on("request", provider.callback());
console.log(issuer);
