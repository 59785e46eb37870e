"use strict";

// node play.js                           the names of all cases
// node play.js CODEC URL PREFIX CASE...  plays them side by side against a server
//
// One line tells how a case went, `PASS name` or `FAIL name: why`. PREFIX makes uids one's own.

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const { codecs } = require("./codecs");
const { Client } = require("./client");

const cases = {
  async handshake({ connect }) {
    const { handshake } = await connect();
    const sys = { dict: {}, heartbeat: 1, serializer: "json" };
    assert.deepEqual(handshake, { code: 200, sys });
  },

  async request({ connect }) {
    const client = await connect();
    for (const msg of ["good", "", "a\u00e7\u00e3o, \u4f60\u597d, \"quoted\", tab\t, line\n"]) {
      assert.deepEqual(await client.request(route("echo"), { msg }), { msg });
      assert.deepEqual(await client.request("testsvc.echo", { msg }), { msg });
    }
  },

  // A codec in a page writes what is no UTF-8, which costs the call and not the connection.
  async "beyond-the-basic-plane"({ connect, codec }) {
    const client = await connect();
    const text = { msg: "\u{1f3ae}" };
    const isUtf8 = Buffer.from(codec.strencode(text.msg)).equals(Buffer.from(text.msg));
    const reply = await client.request(route("echo"), text);
    assert.equal(reply.code, isUtf8 ? undefined : "PIT-400");
    assert.equal(reply.msg === text.msg, isUtf8);
    assert.deepEqual(await client.request(route("echo"), { msg: "here" }), { msg: "here" });
  },

  async "many-requests"({ connect }) {
    const client = await connect();
    const texts = Array.from({ length: 300 }, (_, n) => ({ msg: `request ${n}` }));
    const replies = texts.map((text) => client.request(route("echo"), text));
    assert.deepEqual(await Promise.all(replies), texts);
  },

  // It would shrink, but this client could not inflate it.
  async "large-text"({ connect }) {
    const client = await connect();
    const text = { msg: "again and ".repeat(5000) };
    assert.deepEqual(await client.request(route("echo"), text), text);
    assert.deepEqual(client.messages.map((message) => message.compressGzip), [0]);
  },

  async error({ connect }) {
    const client = await connect();
    const error = { code: "PIT-433", msg: "test error", metadata: { some: "meta" } };
    assert.deepEqual(await client.request(route("fail")), error);
    const unknown = await client.request(route("nonexistenthandler"));
    const msg = "pitaya/handler: connector.testsvc.nonexistenthandler not found";
    assert.deepEqual(unknown, { code: "PIT-404", msg });
  },

  async notify({ connect }) {
    const client = await connect();
    for (const n of [1, 2, 3]) client.notify(route("wave"), { n });
    // A server may run the calls of a session side by side, so the third may take a while.
    while ((await client.request(route("waves"))).n < 3);
    assert(client.messages.every((message) => message.id > 0), "a notify was answered");
  },

  async push({ connect }) {
    const client = await connect();
    assert.deepEqual(await client.request(route("pushme"), { n: 100 }), { n: 100 });
    const pushes = Array.from({ length: 100 }, (_, n) => ["onNumber", { n: n + 1 }]);
    assert.deepEqual(client.pushes, pushes);
    assert.equal(client.messages.at(-1).id, 1, "the reply follows its pushes");
  },

  async bind({ connect, uid }) {
    const client = await connect();
    assert.deepEqual(await client.request(route("bind"), { uid }), { uid });
    assert.deepEqual(await client.request(route("whoami")), { uid });
  },

  async kick({ connect }) {
    const client = await connect();
    client.request(route("kickme")).catch(() => {});
    await client.closed.promise;
    assert.equal(client.kicks.length, 1);
  },

  // Six intervals of silence but for beats, each some time after one was received.
  async heartbeat({ connect }) {
    const client = await connect();
    assert.equal(client.handshake.sys.heartbeat, 1);
    await sleep(6500);
    const { received, sent } = client.beats;
    assert(received >= 5 && received <= 7, `${received} beats received`);
    assert(sent >= 2 && sent <= received, `${sent} beats sent`);
    assert.deepEqual(await client.request(route("echo"), { msg: "here" }), { msg: "here" });
  },

  // Without its beats the same client is lost, so it is they that keep it.
  async "no-heartbeat"({ connect }) {
    const client = await connect();
    client.muted = true;
    const began = performance.now();
    await client.closed.promise;
    const took = performance.now() - began;
    assert(took > 1500 && took < 4500, `closed after ${took} ms`);
    assert.equal(client.beats.sent, 0);
  },

  async dictionary({ connect }) {
    const client = await connect();
    assert.deepEqual(client.handshake.sys.dict, DICTIONARY);
    assert.deepEqual(await client.request(route("echo"), { msg: "coded" }), { msg: "coded" });
    assert.deepEqual(await client.request(route("pushme"), { n: 1 }), { n: 1 });
    assert.deepEqual(client.pushes, [["onNumber", { n: 1 }]]);
    const push = client.messages.find((message) => message.id === 0);
    assert.deepEqual([push.compressRoute, push.route], [1, DICTIONARY.onNumber]);
  },
};

function route(method) {
  return `connector.testsvc.${method}`;
}

const DICTIONARY = {
  "connector.testsvc.echo": 1,
  "connector.testsvc.pushme": 2,
  "connector.testsvc.raw": 515,
  "connector.testsvc.wave": 4,
  onNumber: 5,
};

async function play(name, codec, url, prefix) {
  const clients = [];
  const connect = async () => {
    clients.push(await Client.connect(codec, url));
    return clients.at(-1);
  };
  try {
    await within(CASE_MILLIS_MAX, cases[name]({ codec, connect, uid: `${prefix} ${name}` }));
    console.log(`PASS ${name}`);
  } catch (error) {
    console.log(`FAIL ${name}: ${error.message.replace(/\s+/g, " ")}`);
  }
  await Promise.all(clients.map((client) => client.close()));
}

async function within(millis, work) {
  const watch = new AbortController();
  const late = sleep(millis, undefined, { signal: watch.signal }).then(() => {
    throw new Error(`it goes on after ${millis} ms`);
  });
  await Promise.race([work, late]).finally(() => {
    late.catch(() => {});
    watch.abort();
  });
}

const CASE_MILLIS_MAX = 20_000;

const [codec, url, prefix, ...names] = process.argv.slice(2);
if (!codec) Object.keys(cases).forEach((name) => console.log(name));
else Promise.all(names.map((name) => play(name, codecs[codec](), url, prefix)));
