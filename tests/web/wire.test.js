// The codec alone, against the bytes that were recorded from Pitaya's own code.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";

import {
  decodeMessage, decodePackets, encodeMessage, encodePacket, inflate, kickReason, parseAnswer,
} from "../../examples/web/wire.js";

const LIMIT = 0xffffff;
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (of) => Buffer.from(of).toString("hex");
const packets = (of, limit = LIMIT) => [...decodePackets(of, limit)];
const vectors = JSON.parse(readFileSync(new URL("../data/vectors.json", import.meta.url), "utf8"));
const PACKETS = [, "handshake", "handshake_ack", "heartbeat", "data", "kick"];
const MESSAGES = ["request", "notify", "response", "push"];

/** What bytes mean, in the words of the vectors. */
async function meaning({ layer, hex: whole }) {
  if (layer === "message") return message(bytes(whole));
  const read = [];
  for (const { kind, body } of packets(bytes(whole))) {
    const type = PACKETS[kind];
    const isData = type === "data";
    read.push(isData ? { type, message: await message(body) } : { type, body_hex: hex(body) });
  }
  return { packets: read };
}

async function message(of) {
  const { kind, id, route, isError, isDeflated, body } = decodeMessage(of);
  const type = MESSAGES[kind];
  const hasId = type === "request" || type === "response";
  const name = typeof route === "number" ? { route_code: route } : { route };
  const plain = isDeflated ? await inflate(body, LIMIT) : body;
  return {
    type, ...(hasId ? { id } : {}), ...(type === "response" ? {} : name),
    error: isError, zlib: isDeflated, body_hex: hex(plain),
  };
}

test("every recorded packet and message means what it means to Go", async () => {
  const recorded = vectors.filter(({ layer }) => layer === "packet" || layer === "message");
  let understood = 0;
  let refused = 0;
  for (const vector of recorded) {
    const { name, expect } = vector;
    // A WebSocket message holds whole packets.
    if ("refused" in expect || "unfinished_bytes" in expect) {
      await assert.rejects(meaning(vector), Error, name);
      refused += 1;
    } else {
      assert.deepEqual(await meaning(vector), expect, name);
      understood += 1;
    }
  }
  assert.deepEqual([understood, refused, understood + refused], [40, 14, recorded.length]);
});

test("what a client sends is written as Go writes it", () => {
  let compared = 0;
  for (const { name, hex: whole, expect, reencodes } of vectors) {
    if (!["request", "notify"].includes(expect?.type) || !reencodes) continue;
    const { kind, id, route, body } = decodeMessage(bytes(whole));
    assert.equal(hex(encodeMessage({ kind, id, route, body })), whole, name);
    compared += 1;
  }
  assert.equal(compared, 11);
  assert.equal(hex(encodePacket({ kind: 3, body: new Uint8Array() })), "03000000");
  const long = encodePacket({ kind: 4, body: new Uint8Array(66_051) });
  assert.equal(hex(long.slice(0, 4)), "04010203");
});

test("ids keep their value beyond 32 bits, and refuse to go on for ever", () => {
  for (const id of [0, 1, 127, 128, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER]) {
    const sent = encodeMessage({ kind: 0, id, route: "a", body: new Uint8Array() });
    assert.equal(decodeMessage(sent).id, id);
  }
  assert.throws(() => decodeMessage(bytes("04" + "80".repeat(10) + "00")), /without an end/);
});

test("what does not fit the wire is refused before it is sent", () => {
  const body = new Uint8Array();
  assert.equal(encodeMessage({ kind: 1, id: 0, route: "r".repeat(255), body }).length, 257);
  assert.throws(() => encodeMessage({ kind: 1, id: 0, route: "r".repeat(256), body }), /PIT|route/);
  assert.throws(() => encodePacket({ kind: 4, body: new Uint8Array(LIMIT + 1) }), RangeError);
});

test("packets are refused by what their header says", () => {
  assert.equal(packets(bytes("0300000003000000")).length, 2);
  assert.throws(() => packets(bytes("030000000300")), /header that is cut off/);
  assert.throws(() => packets(bytes("0400000501")), /packet that is cut off/);
  assert.throws(() => packets(bytes("040000050101010101"), 4), /a body of 5 bytes/);
  assert.throws(() => packets(bytes("16030100")), /no packet has type 22/);
});

test("a small body that inflates to much is stopped at the limit", async () => {
  const bomb = deflateSync(Buffer.alloc(10_000_000));
  assert.ok(bomb.length < 20_000);
  await assert.rejects(inflate(bomb, 65_536), /too much/);
  assert.equal((await inflate(deflateSync(Buffer.alloc(65_536)), 65_536)).length, 65_536);
  await assert.rejects(inflate(deflateSync(Buffer.alloc(65_537)), 65_536), /too much/);
});

test("a body that is not one whole zlib stream is refused", async () => {
  const whole = deflateSync("hello");
  assert.equal(Buffer.from(await inflate(whole, 5)).toString(), "hello");
  await assert.rejects(inflate(whole.subarray(0, whole.length - 1), 5));
  await assert.rejects(inflate(new Uint8Array(), 5));
  await assert.rejects(inflate(gzipSync("hello"), 5));
});

test("answers of other servers are read with care", () => {
  const read = (said) => parseAnswer(Buffer.from(JSON.stringify(said)));
  const { code, server } = read({ code: 200, sys: { dict: { __proto__x: 7 }, heartbeat: 1.5 } });
  assert.deepEqual([code, server.heartbeatSeconds, server.serializer], [200, 1.5, "json"]);
  assert.equal(server.dictionary.get("__proto__x"), 7);
  assert.equal(read({ code: 400 }).server.dictionary.size, 0);
  assert.equal(read(null).code, undefined);
  for (const odd of [-1, 65_536, 1.5, "1", null]) {
    assert.throws(() => read({ code: 200, sys: { dict: { a: odd } } }), /odd codes/, String(odd));
  }
  assert.throws(() => parseAnswer(Buffer.from("no json")));
});

test("a kick may say why, or not", () => {
  assert.equal(kickReason(Buffer.from('{"reason":"too late"}')), "too late");
  for (const body of ["", "{}", "null", "[1]", '{"reason":1}', '{"reason"', "\xff"]) {
    assert.equal(kickReason(Buffer.from(body)), "", body);
  }
  assert.equal(kickReason(Buffer.from(JSON.stringify({ reason: "x".repeat(5_000) }))), "");
});
