// The client against Pitaya's own server in Go, over WebSocket; tests/interop/README.md has its
// routes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, describe, test } from "node:test";

import WebSocket from "ws";

import { Client } from "../../examples/web/pitaya.js";

const { PITAYA_GO_PEER: program } = process.env;
const clients = [];
const servers = [];

after(() => {
  clients.forEach((client) => client.close());
  servers.forEach((server) => server.kill());
});

describe("Pitaya's own server serves it", { concurrency: true }, () => {
  for (const compression of ["on", "off"]) {
    for (const dictionary of ["on", "off"]) {
      const name = `with compression ${compression} and the dictionary ${dictionary}`;
      test(name, () => playsAll(compression, dictionary));
    }
  }
});

async function playsAll(compression, dictionary) {
  const client = await open(compression, dictionary);
  const { dictionary: codes, heartbeatSeconds } = client.state.server;
  assert.deepEqual([codes.size > 0, heartbeatSeconds], [dictionary === "on", 1]);

  const text = { msg: "again and again ".repeat(50) };
  assert.deepEqual(await client.request("connector.testsvc.echo", text), text);
  await errorsArrive(client);
  await pushesArrive(client);
  await beatsAreEnough(client);
  await kicksArrive(client);
}

async function errorsArrive(client) {
  const said = { code: "PIT-433", message: "test error", metadata: { some: "meta" } };
  await assert.rejects(client.request("connector.testsvc.fail"), said);
  const route = "connector.testsvc.nonexistenthandler";
  const message = `pitaya/handler: ${route} not found`;
  await assert.rejects(client.request(route), { code: "PIT-404", message });
}

async function pushesArrive(client) {
  const heard = [];
  client.on("onNumber", ({ n }) => heard.push(n));
  assert.deepEqual(await client.request("connector.testsvc.pushme", { n: 20 }), { n: 20 });
  assert.deepEqual(heard, Array.from({ length: 20 }, (_, n) => n + 1));
  client.notify("connector.testsvc.wave");
  // That server may run what comes later first.
  while ((await client.request("connector.testsvc.waves")).n === 0);
}

/** That server closes what is silent for two to three of its seconds. */
async function beatsAreEnough(client) {
  assert.deepEqual(await client.request("connector.testsvc.slow", { n: 4_000 }), { n: 4_000 });
  assert.equal(client.state.phase, "open");
}

async function kicksArrive(client) {
  client.request("connector.testsvc.kickme").catch(() => {});
  const state = await new Promise((resolve) => {
    client.watch((state) => state.phase !== "open" && resolve(state));
  });
  assert.deepEqual(state, { phase: "closed", reason: { kind: "kicked", detail: "" } });
}

async function open(compression, dictionary) {
  const settings = ["--compression", compression, "--dictionary", dictionary];
  const client = new Client(await start(settings), { WebSocket });
  clients.push(client);
  await client.open();
  return client;
}

/** Starts a server, which ends with its standard input, and gives its URL. */
async function start(settings) {
  const fixed = ["server", "--addr", "127.0.0.1:0", "--transport", "ws", "--serializer", "json"];
  const server = spawn(program, [...fixed, "--heartbeat", "1s", ...settings], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  servers.push(server);
  for await (const line of createInterface(server.stdout)) {
    const address = line.match(/LISTENING (.+)/)?.[1];
    if (address === undefined) continue;
    server.stdout.resume();
    return `ws://${address}/`;
  }
  throw new Error(`${program} ended without listening`);
}
