// A server in memory: sockets that a test opens, answers and loses by hand.

import { DATA, HANDSHAKE, PUSH, RESPONSE, decodePackets } from "../../examples/web/wire.js";
import { deflateSync } from "node:zlib";

/** The class for the option `WebSocket`, and the sockets that were made with it. */
export function fakeNetwork() {
  const sockets = [];
  class FakeSocket {
    binaryType = "blob";
    bufferedAmount = 0;
    readyState = 0;
    sent = [];
    closed = false;
    constructor(url) {
      this.url = url;
      sockets.push(this);
    }
    send(bytes) {
      this.sent.push(...decodePackets(bytes, 0xffffff));
    }
    close() {
      this.closed = true;
      this.readyState = 2;
    }
    accept() {
      this.readyState = 1;
      this.onopen({});
    }
    lose(code = 1006) {
      this.readyState = 3;
      this.onerror({});
      this.onclose({ code, reason: "" });
    }
    receive(...packets) {
      this.onmessage({ data: Uint8Array.from(packets.flatMap((bytes) => [...bytes])).buffer });
    }
    /** What was sent since the last time, of one type of packet. */
    take(kind) {
      const taken = this.sent.filter((packet) => packet.kind === kind);
      this.sent = this.sent.filter((packet) => packet.kind !== kind);
      return taken.map((packet) => Buffer.from(packet.body));
    }
    open(sys = {}) {
      this.accept();
      this.receive(answer(sys));
    }
  }
  return { FakeSocket, sockets };
}

/** A packet as a server writes it, without the code under test. */
export function packet(kind, body = "") {
  const bytes = Buffer.from(body);
  const header = [kind, bytes.length >> 16, (bytes.length >> 8) & 255, bytes.length & 255];
  return Buffer.concat([Buffer.from(header), bytes]);
}

export function answer(sys = {}, code = 200) {
  const said = { dict: {}, heartbeat: 30, serializer: "json", ...sys };
  return packet(HANDSHAKE, JSON.stringify({ code, sys: said }));
}

export function response(id, value, { deflated = false, error = false } = {}) {
  const flag = (RESPONSE << 1) | (error ? 0x20 : 0) | (deflated ? 0x10 : 0);
  return packet(DATA, Buffer.concat([Buffer.from([flag, id]), body(value, deflated)]));
}

export function push(route, value, { deflated = false } = {}) {
  const flag = (PUSH << 1) | (deflated ? 0x10 : 0) | (typeof route === "number" ? 1 : 0);
  const name =
    typeof route === "number" ? [route >> 8, route & 255] : [route.length, ...Buffer.from(route)];
  return packet(DATA, Buffer.concat([Buffer.from([flag, ...name]), body(value, deflated)]));
}

function body(value, deflated) {
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
  return deflated ? deflateSync(bytes) : bytes;
}
