// The client in Node against our server over real sockets; the application is in
// tests/tests/web/hall.rs.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import WebSocket from "ws";

import { Client } from "../../examples/web/pitaya.js";

const { PITAYA_URL: url } = process.env;
const clients = [];

afterEach(() => clients.splice(0).forEach((client) => client.close()));

test("the server gets what the client says of itself", async () => {
  const { client } = await open({ user: { age: 30 }, clientVersion: "2.1" });
  const said = await client.request("hall.who");
  assert.deepEqual([said.user, said.version], [{ age: 30 }, "2.1"]);
  assert.match(said.library, /-pitaya-rust$/);
});

test("values and raw bytes come back as they went", async () => {
  const { client } = await open();
  const value = { text: "<b>\u2028 ünï 🐉", list: [1, null, true], nothing: {} };
  assert.deepEqual(await client.request("hall.echo", value), value);
  assert.equal(await client.request("hall.echo", Buffer.from("12")), 12);
  const long = "long ".repeat(12_000);
  assert.equal(await client.request("hall.echo", long), long);
});

test("errors come with code, text and metadata", async () => {
  const { client } = await open();
  const error = { code: "HALL-1", message: "no <seat>", metadata: { row: "7" } };
  await assert.rejects(client.request("hall.fail"), error);
  await assert.rejects(client.request("hall.nowhere"), { code: "PIT-404" });
  await assert.rejects(client.request("nowhere"), { code: "PIT-400" });
});

test("as many requests as are allowed are answered, each with its own", async () => {
  const { client } = await open();
  const asked = Array.from({ length: 64 }, (_, n) => n);
  const replies = Promise.all(asked.map((n) => client.request("hall.echo", { n })));
  await assert.rejects(client.request("hall.echo", 65), { code: "PIT-429" });
  assert.deepEqual((await replies).map(({ n }) => n), asked);
});

test("pushes stay in order, compressed or not, and before the reply behind them", async () => {
  const { client, flags } = await open();
  const heard = [];
  client.on("onNumber", ({ n }) => heard.push(n));
  assert.equal(await client.request("hall.burst", 100), 100);
  assert.deepEqual(heard, Array.from({ length: 100 }, (_, n) => n + 1));
  const pushes = flags.filter((flag) => (flag & 0x0e) === 0x06);
  assert.equal(pushes.filter((flag) => flag & 0x10).length, 50, "every second one is long");
  assert.ok(pushes.every((flag) => flag & 0x01), "the dictionary has their route");
});

test("an idle connection is kept by its beats", async () => {
  const { client } = await open();
  // The server beats each second, and closes what is silent for three and a half.
  assert.equal(await client.request("hall.later", 4_500), 4_500);
  assert.equal(client.state.phase, "open");
});

test("a deadline of the client's own ends a request, and nothing else", async () => {
  const { client } = await open();
  const late = client.request("hall.later", 200, { deadlineMs: 20 });
  await assert.rejects(late, { code: "PIT-504" });
  assert.equal(await client.request("hall.echo", 1), 1);
  await until(() => client.counters.repliesLate === 1, client);
});

test("a kick says why, and is the end", async () => {
  const { client } = await open();
  const closed = reached(client, "closed");
  client.notify("hall.kick");
  assert.deepEqual((await closed).reason, { kind: "kicked", detail: "enough" });
});

test("a connection that the server closes comes back by itself", async () => {
  const { client } = await open({ reconnect: { delayMsMin: 1 } });
  const lost = reached(client, "reconnecting");
  client.notify("hall.close");
  const { reason } = await lost;
  assert.equal(reason.kind, "lost");
  await reached(client, "open");
  assert.equal(await client.request("hall.echo", "again"), "again");
});

test("who is refused is told, and does not come back", async () => {
  const { client } = make({ clientVersion: "refused" });
  await assert.rejects(client.open(), { code: "PIT-499", message: /refused: code 400/ });
  assert.equal(client.state.phase, "closed");
});

test("where nobody listens the client says so", async () => {
  const { client } = make({ reconnect: false }, "ws://127.0.0.1:9/");
  await assert.rejects(client.open(), /unreachable/);
});

/** A client, and the flags of the messages that its sockets receive. */
function make(options, to = url) {
  const flags = [];
  class Watched extends WebSocket {
    constructor(url) {
      super(url);
      this.addEventListener("message", ({ data }) => {
        const [kind, , , , flag] = new Uint8Array(data);
        if (kind === 4) flags.push(flag);
      });
    }
  }
  const client = new Client(to, { ...options, WebSocket: Watched });
  clients.push(client);
  return { client, flags };
}

async function open(options) {
  const made = make(options);
  await made.client.open();
  return made;
}

function reached(client, phase) {
  return new Promise((resolve) => {
    const stop = client.watch((state) => {
      if (state.phase !== phase) return;
      queueMicrotask(() => stop());
      resolve(state);
    });
  });
}

/** Asks again and again, each time after an answer of the server. */
async function until(holds, client) {
  while (!holds()) await client.request("hall.later", 10);
}
