// The client against Pitaya's own server in Go, over WebSocket; tests/interop/README.md has its
// routes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

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
  const client = await within("opening", open(compression, dictionary));
  const { dictionary: codes, heartbeatSeconds } = client.state.server;
  assert.deepEqual([codes.size > 0, heartbeatSeconds], [dictionary === "on", 1]);

  for (const step of [repliesArrive, errorsArrive, pushesArrive, beatsAreEnough, kicksArrive]) {
    await within(step.name, step(client));
  }
}

/** So that of what hangs one learns which step it was. */
async function within(name, step) {
  const watch = new AbortController();
  const late = sleep(STEP_MILLIS_MAX, undefined, { signal: watch.signal }).then(() => {
    throw new Error(`${name} goes on after ${STEP_MILLIS_MAX} ms`);
  });
  // Of two that end, the second has nobody to tell.
  [step, late].forEach((one) => one.catch(() => {}));
  return Promise.race([step, late]).finally(() => watch.abort());
}

async function repliesArrive(client) {
  const text = { msg: "again and again ".repeat(50) };
  assert.deepEqual(await client.request("connector.testsvc.echo", text), text);
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

/**
 * That server closes what is silent for two to four of its seconds. The half is for the kick that
 * comes next: it should not meet a beat.
 */
async function beatsAreEnough(client) {
  const pause = { n: 4_500 };
  const options = { deadlineMs: STEP_MILLIS_MAX };
  assert.deepEqual(await client.request("connector.testsvc.slow", pause, options), pause);
  assert.equal(client.state.phase, "open");
}

async function kicksArrive(client) {
  const ended = new Promise((resolve) => {
    client.watch((state) => state.phase !== "open" && resolve(state));
  });
  const { code, message } = await askToBeKicked(client);
  assert.equal(code, "PIT-499", message);
  assert.deepEqual(await ended, { phase: "closed", reason: { kind: "kicked", detail: "" } });
}

/**
 * That server writes a kick past the queue of all else that it writes. If it beats or answers at
 * the same moment, which includes the end of a write that the client has read already, its
 * WebSocket panics: then nobody is kicked, and one has to ask again.
 */
async function askToBeKicked(client) {
  let error;
  for (let asked = 0; asked < KICKS_MAX; asked++) {
    const answer = client.request("connector.testsvc.kickme");
    error = await answer.then(() => assert.fail("it was answered"), (why) => why);
    if (error.code !== "PIT-000" || error.message !== KICK_COLLIDED) break;
  }
  return error;
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

const KICKS_MAX = 10;
const KICK_COLLIDED = "concurrent write to websocket connection";
/** A few steps together take less than the runner gives to a test. */
const STEP_MILLIS_MAX = 9_000;
