// The client against a server in memory, on a clock that the tests move.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { deflateSync } from "node:zlib";

import { Client, PitayaError } from "../../examples/web/pitaya.js";
import {
  DATA, HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, KICK, inflate,
} from "../../examples/web/wire.js";
import { answer, fakeNetwork, packet, push, response } from "./fake.js";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.reset());

test("a client shakes hands, acknowledges and is open", async () => {
  const user = () => ({ age: 30 });
  const { client, opened, socket, states } = dial({ user, clientVersion: "2" });
  socket.accept();
  const [{ sys, user: said }] = socket.take(HANDSHAKE).map((body) => JSON.parse(body));
  assert.match(sys.libVersion, /^\d+\.\d+\.\d+-pitaya-rust$/);
  assert.deepEqual([said, sys.clientVersion], [{ age: 30 }, "2"]);
  assert.equal(socket.take(HANDSHAKE_ACK).length, 0);

  socket.receive(answer({ heartbeat: 7 }));
  assert.equal(socket.take(HANDSHAKE_ACK).length, 1);
  await opened;
  assert.equal(client.state.server.heartbeatSeconds, 7);
  assert.deepEqual(states, ["connecting", "open"]);
});

test("replies find their requests in any order", async () => {
  const { client, socket } = await open();
  const first = client.request("a.b", { n: 1 });
  const second = client.request("a.c", "two");
  assert.deepEqual(socket.take(DATA).map(String), ['\0\x01\x03a.b{"n":1}', '\0\x02\x03a.c"two"']);
  socket.receive(response(2, "second"), response(1, { first: true }));
  assert.deepEqual(await Promise.all([first, second]), [{ first: true }, "second"]);
  mock.timers.tick(5_000);
  assert.equal(client.counters.requestsExpired, 0);
});

test("raw bytes pass as they are, and no argument is no body", async () => {
  const { client, socket } = await open();
  client.notify("a.b", Uint8Array.of(1, 2));
  client.notify("a.b");
  assert.deepEqual(socket.take(DATA).map(String), ["\x02\x03a.b\x01\x02", "\x02\x03a.b"]);
  const nothing = client.request("a.b");
  socket.receive(response(1, Buffer.alloc(0)));
  assert.equal(await nothing, undefined);
});

test("an error of the server has its code, its text and its metadata", async () => {
  const { client, socket } = await open();
  const failures = [1, 2, 3].map(() => client.request("a.b").catch((error) => error));
  const said = { code: "GAME-7", msg: "no <gold>", metadata: { left: "3" } };
  socket.receive(response(1, said, { error: true }));
  socket.receive(response(2, {}, { error: true, deflated: true }));
  socket.receive(response(3, Buffer.from("odd"), { error: true }));
  const [full, empty, odd] = await Promise.all(failures);
  assert.ok(full instanceof PitayaError);
  assert.deepEqual([full.code, full.message], ["GAME-7", "no <gold>"]);
  assert.deepEqual(full.metadata, { left: "3" });
  assert.deepEqual([empty.code, empty.message, empty.metadata], ["PIT-000", "", {}]);
  assert.match(odd.message, /does not decode/);
});

test("a request without a reply ends at its deadline, and the late reply is counted", async () => {
  const { client, socket } = await open();
  const slow = client.request("a.b");
  const quick = client.request("a.c", 1, { deadlineMs: 100 });
  mock.timers.tick(100);
  await assert.rejects(quick, { code: "PIT-504" });
  mock.timers.tick(4_899);
  socket.receive(response(2, "late"));
  mock.timers.tick(1);
  await assert.rejects(slow, { code: "PIT-504", metadata: { route: "a.b" } });
  assert.deepEqual([client.counters.requestsExpired, client.counters.repliesLate], [2, 1]);
});

test("calls over a limit are refused and not sent", async () => {
  const limits = { inFlightMax: 1, sentBytesMax: 100, outboundBytesMax: 10 };
  const { client, socket } = await open({ limits });
  void client.request("a.b").catch(() => {});
  await assert.rejects(client.request("a.b"), { code: "PIT-429" });
  assert.throws(() => client.notify("a.b", "x".repeat(100)), { code: "PIT-413" });
  assert.throws(() => client.notify("r".repeat(256)), { code: "PIT-413" });
  socket.bufferedAmount = 11;
  assert.throws(() => client.notify("a.b"), { code: "PIT-429" });
  await assert.rejects(client.request("a.b", 1n), TypeError);
  assert.equal(socket.take(DATA).length, 1);
  assert.equal(client.counters.callsRefused, 4);
});

test("pushes reach every listener in order, until it is taken off", async () => {
  const { client, socket } = await open();
  const heard = [];
  const off = client.on("onJoin", (name) => heard.push(`a ${name}`));
  client.on("onJoin", (name) => heard.push(`b ${name}`));
  socket.receive(push("onJoin", "ada"), push("onLeave", "bob"), push("onJoin", Buffer.from("{")));
  off();
  socket.receive(push("onJoin", "eve"));
  assert.deepEqual(heard, ["a ada", "b ada", "b eve"]);
  assert.equal(client.counters.pushesDropped, 2);
});

test("inflating changes nothing of the order of messages", async () => {
  const { client, socket } = await open();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  const replied = client.request("a.b").then((n) => heard.push(n));
  const padding = "x".repeat(10_000);
  client.on("long", ({ n }) => heard.push(n));
  socket.receive(push("long", { n: 1, padding }, { deflated: true }));
  socket.receive(push("n", 2));
  socket.receive(response(1, 3, { deflated: true }));
  socket.receive(push("long", { n: 4, padding }, { deflated: true }), push("n", 5));
  socket.receive(push("n", 6), packet(KICK, '{"reason":"enough"}'));
  await ended(client);
  await replied;
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(client.state.reason, { kind: "kicked", detail: "enough" });
});

test("whoever awaits a reply goes on before the push behind it is heard", async () => {
  const { client, socket } = await open();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  const replied = (async () => heard.push(await client.request("a.b")))();
  socket.receive(push("n", 1), response(1, 2), push("n", 3));
  socket.receive(push("n", 4));
  await replied;
  await settled();
  assert.deepEqual(heard, [1, 2, 3, 4]);
});

test("routes of the dictionary travel as codes, both ways", async () => {
  const { client, socket } = await open({}, { dict: { "a.b": 0, onJoin: 258 } });
  const heard = [];
  client.on("onJoin", (name) => heard.push(name));
  client.notify("a.b", 1);
  client.notify("a.c", 1);
  void client.request("a.b", 2).catch(() => {});
  const sent = socket.take(DATA).map(String);
  assert.deepEqual(sent, ["\x03\0\x001", "\x02\x03a.c1", "\x01\x01\0\x002"]);
  socket.receive(push(258, "ada"), push("onJoin", "bob"));
  assert.deepEqual(heard, ["ada", "bob"]);
  socket.receive(push(3, "eve"));
  await ended(client, "reconnecting");
  assert.match(client.state.reason.detail, /route code 3 is not in the dictionary/);
});

test("a compressed answer to the handshake is read, and what comes right behind it", async () => {
  const { client, opened, socket } = dial();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  socket.accept();
  const plain = '{"code":200,"sys":{"heartbeat":30,"dict":{"n":9},"serializer":"json"}}';
  socket.receive(packet(HANDSHAKE, deflateSync(plain)), push(9, "early"));
  await opened;
  await settled();
  assert.deepEqual(heard, ["early"]);
});

test("a beat is sent each interval, and a silent server is left after two and a half", async () => {
  const { client, socket } = await open({}, { heartbeat: 10 });
  pass(9_999);
  assert.equal(socket.take(HEARTBEAT).length, 0);
  pass(1);
  assert.equal(socket.take(HEARTBEAT).length, 1);
  socket.receive(packet(HEARTBEAT));
  pass(25_000);
  assert.equal(socket.take(HEARTBEAT).length, 2);
  assert.equal(client.state.phase, "open");
  pass(5_000);
  assert.equal(client.state.phase, "reconnecting");
  assert.equal(client.state.reason.kind, "silent");
  assert.ok(socket.closed);
});

test("a tab whose timers are asleep answers the beats of the server", async () => {
  const { socket } = await open({}, { heartbeat: 10 });
  for (let beats = 0; beats < 3; beats += 1) socket.receive(packet(HEARTBEAT));
  assert.equal(socket.take(HEARTBEAT).length, 3);
});

test("a server without heartbeats is not waited for", async () => {
  const { client, socket } = await open({}, { heartbeat: 0 });
  mock.timers.tick(1_000_000);
  assert.equal(client.state.phase, "open");
  assert.equal(socket.take(HEARTBEAT).length, 0);
});

test("a lost connection comes back, later each time, and says so", async () => {
  mock.method(Math, "random", () => 1);
  const { client, sockets, socket, states } = await open();
  const inFlight = client.request("a.b");
  socket.lose();
  await assert.rejects(inFlight, { code: "PIT-499", message: "no connection: lost: code 1006" });
  assert.throws(() => client.notify("a.b"), { code: "PIT-499" });
  const waits = [];
  for (let attempt = 1; attempt <= 7; attempt += 1) {
    assert.equal(client.state.attempt, attempt);
    waits.push(client.state.delayMs);
    mock.timers.tick(client.state.delayMs - 1);
    assert.equal(sockets.length, attempt);
    mock.timers.tick(1);
    sockets[attempt].lose();
    assert.equal(client.state.reason.kind, "unreachable");
  }
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  client.retry();
  client.retry();
  assert.equal(sockets.length, 9);
  sockets[8].open();
  assert.deepEqual(states.slice(-2), ["reconnecting", "open"]);
  const again = client.request("a.b");
  sockets[8].receive(response(1, "again"));
  assert.equal(await again, "again");
});

test("the wait is spread by chance, and starts anew after a connection that held", async () => {
  mock.method(Math, "random", () => 0);
  const { client, sockets, socket } = await open();
  socket.lose();
  assert.equal(client.state.delayMs, 250);
  mock.timers.tick(250);
  sockets[1].open();
  mock.timers.tick(10_000);
  sockets[1].lose();
  assert.deepEqual([client.state.attempt, client.state.delayMs], [2, 500]);
  mock.timers.tick(500);
  sockets[2].open({ heartbeat: 0 });
  mock.timers.tick(10_001);
  sockets[2].lose();
  assert.deepEqual([client.state.attempt, client.state.delayMs], [1, 250]);
});

test("subscriptions outlive the connection", async () => {
  const { client, sockets, socket } = await open();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  socket.lose();
  client.retry();
  sockets[1].open();
  sockets[1].receive(push("n", 1));
  assert.deepEqual(heard, [1]);
});

test("who was kicked or refused does not come back by itself, but may open again", async () => {
  const { client, sockets, socket } = await open();
  socket.receive(packet(KICK, '{"reason":"signed in elsewhere"}'));
  assert.deepEqual(client.state.reason, { kind: "kicked", detail: "signed in elsewhere" });
  mock.timers.tick(1_000_000);
  assert.equal(sockets.length, 1);

  const refused = client.open();
  sockets[1].accept();
  sockets[1].receive(answer({}, 400));
  await assert.rejects(refused, { code: "PIT-499", message: /refused: code 400/ });
  const other = client.open();
  sockets[2].accept();
  sockets[2].receive(answer({ serializer: "protobuf" }));
  await assert.rejects(other, /the server speaks protobuf/);
});

test("attempts end where the application says, or there are none", async () => {
  const { opened, sockets } = dial({ reconnect: { attemptsMax: 1 } });
  sockets[0].lose();
  mock.timers.tick(1_000);
  sockets[1].lose();
  await assert.rejects(opened, /unreachable/);
  const once = dial({ reconnect: false });
  once.socket.lose();
  await assert.rejects(once.opened, /unreachable/);
});

test("a server that accepts and then says nothing is given up in time", async () => {
  const { client, socket } = dial();
  socket.accept();
  mock.timers.tick(5_000);
  assert.equal(client.state.reason.kind, "timeout");
  assert.ok(socket.closed);
});

test("what a server must not send ends the connection, after what was good", async () => {
  const breaches = [
    [packet(9), /no packet has type 9/],
    [packet(HANDSHAKE_ACK), /unexpected packet of type 2/],
    [answer(), /unexpected packet of type 1/],
    [packet(DATA, "\x00\x01\x01a"), /only a client sends/],
    [packet(DATA, "\x16\x01nno zlib"), /./],
    [packet(DATA, "x"), /less than two/],
  ];
  for (const [bytes, detail] of breaches) {
    const { client, socket } = await open();
    const heard = [];
    client.on("n", (n) => heard.push(n));
    socket.receive(push("n", 1), bytes);
    await ended(client, "reconnecting");
    assert.equal(client.state.reason.kind, "protocol");
    assert.match(client.state.reason.detail, detail);
    assert.deepEqual(heard, [1]);
    client.close();
  }
  const { client, socket } = dial();
  socket.accept();
  socket.receive(packet(HEARTBEAT));
  await ended(client, "reconnecting");
  assert.match(client.state.reason.detail, /unexpected packet of type 3/);
  const text = await open();
  text.socket.onmessage({ data: "text" });
  await ended(text.client, "reconnecting");
});

test("more than may wait for the inflater ends the connection", async () => {
  const { client, socket } = await open({ limits: { waitingPacketsMax: 10 } });
  const many = Array.from({ length: 12 }, () => push("n", 1, { deflated: true }));
  socket.receive(...many);
  await ended(client, "reconnecting");
  assert.match(client.state.reason.detail, /more comes than can be inflated/);
});

test("close ends everything, and nothing is heard after it", async () => {
  const { client, socket } = await open();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  const inFlight = client.request("a.b");
  socket.receive(push("n", 1, { deflated: true }), push("n", 2));
  client.close();
  await assert.rejects(inFlight, { code: "PIT-499", metadata: { reason: "closed" } });
  socket.receive(push("n", 3), packet(KICK));
  socket.lose(1000);
  await inflated();
  const timers = mock.method(globalThis, "setTimeout");
  pass(60_000);
  assert.equal(timers.mock.callCount(), 0);
  assert.deepEqual([client.state.phase, heard, socket.closed], ["closed", [], true]);
});

test("what came before the end of the stream is heard before the end is told", async () => {
  const { client, socket } = await open();
  const heard = [];
  client.on("n", (n) => heard.push(n));
  socket.receive(push("n", 1, { deflated: true }), push("n", 2));
  socket.lose();
  client.watch(({ phase }) => heard.push(phase));
  await ended(client, "reconnecting");
  assert.deepEqual(heard, ["open", 1, 2, "reconnecting"]);
});

test("who closes while it waits to try again stays closed, and starts anew later", async () => {
  const { client, sockets, socket } = await open();
  socket.lose();
  client.close();
  mock.timers.tick(1_000_000);
  assert.deepEqual([client.state.phase, sockets.length], ["closed", 1]);
  const opened = client.open();
  sockets[1].lose();
  assert.equal(client.state.attempt, 1);
  client.retry();
  sockets[2].open();
  await opened;
});

test("what a listener throws is its own affair", async () => {
  const thrown = [];
  mock.method(globalThis, "queueMicrotask", (task) => thrown.push(task));
  const { client, socket } = await open();
  const heard = [];
  client.on("n", () => {
    throw new Error("mine");
  });
  client.on("n", (n) => heard.push(n));
  socket.receive(push("n", 1), push("n", 2));
  assert.deepEqual([heard, client.state.phase], [[1, 2], "open"]);
  assert.equal(thrown.length, 2);
  assert.throws(thrown[0], /mine/);
});

test("a watcher may change the state that it hears of", async () => {
  const { client, socket, states } = await open();
  const stop = client.watch(({ phase }) => phase === "reconnecting" && client.close());
  const last = [];
  client.watch(({ phase }) => last.push(phase));
  socket.lose();
  stop();
  assert.deepEqual([client.state.phase, last], ["closed", ["open", "closed"]]);
  assert.equal(states.at(-1), "closed");
});

test("a watcher that another takes off is not called any more", async () => {
  const { client, socket } = await open();
  const late = [];
  client.watch(({ phase }) => phase === "reconnecting" && stop());
  const stop = client.watch(({ phase }) => late.push(phase));
  socket.lose();
  assert.deepEqual(late, ["open"]);
});

test("only what can be the URL of a server is taken", () => {
  const { FakeSocket, sockets } = fakeNetwork();
  const urls = ["ws://a/x?y=1#z", "https://a:1/", "http://a/"];
  for (const url of urls) void new Client(url, { WebSocket: FakeSocket }).open().catch(() => {});
  assert.deepEqual(sockets.map(({ url }) => url), ["ws://a/x?y=1", "wss://a:1/", "ws://a/"]);
  assert.throws(() => new Client("tcp://a/", { WebSocket: FakeSocket }), TypeError);
  assert.throws(() => new Client("/", { WebSocket: FakeSocket }), TypeError);
});

function dial(options = {}) {
  const { FakeSocket, sockets } = fakeNetwork();
  const client = new Client("ws://server/", { ...options, WebSocket: FakeSocket });
  const states = [];
  client.watch(({ phase }) => states.push(phase));
  states.length = 0;
  const opened = client.open();
  opened.catch(() => {});
  return { client, opened, sockets, socket: sockets[0], states };
}

async function open(options, sys) {
  const dialled = dial(options);
  dialled.socket.open(sys);
  await dialled.opened;
  dialled.socket.sent = [];
  return dialled;
}

/** Waits until the client is in `phase`. */
function ended(client, phase = "closed") {
  return new Promise((resolve) => {
    const stop = client.watch((state) => {
      if (state.phase === phase) queueMicrotask(() => resolve(stop()));
    });
  });
}

/** Time goes by bit by bit, so that a timer that starts another does it at its own time. */
function pass(ms) {
  for (let passed = 0; passed < ms; passed += 1) mock.timers.tick(1);
}

/** What was given to the inflater before this has come out of it. */
async function inflated() {
  const body = deflateSync(Buffer.alloc(1_000_000));
  for (let times = 0; times < 3; times += 1) await inflate(body, 1_000_000);
}

/** A turn of the event loop, in which all that is ready has run. */
function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}
