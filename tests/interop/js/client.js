"use strict";

// A client in the manner of Pomelo's JavaScript clients: it cannot inflate, sees no error flag, and
// beats only some time after it has received a beat. A server that waits for it to beat first, or
// that stops beating, loses it.

const WebSocket = require("ws");

exports.Client = class Client {
  static async connect(codec, url) {
    const client = new Client(codec, url);
    await client.#ready.promise;
    return client;
  }

  beats = { received: 0, sent: 0 };
  closed = deferred();
  handshake;
  kicks = [];
  messages = [];
  muted = false;
  pushes = [];
  #beating;
  #codec;
  #codes = {};
  #id = 0;
  #names = {};
  #ready = deferred();
  #replies = new Map();
  #socket;

  constructor(codec, url) {
    this.#codec = codec;
    this.#socket = new WebSocket(url);
    this.#socket.on("open", () => {
      this.#send(codec.Package.TYPE_HANDSHAKE, this.#text(HELLO));
    });
    this.#socket.on("message", (bytes, binary) => this.#handleMessage(bytes, binary));
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", (code) => {
      clearTimeout(this.#beating);
      this.#fail(new Error(`the connection was closed with code ${code}`));
      this.closed.resolve(code);
    });
  }

  // The body of the reply, be it an error or not: the codec does not tell.
  request(route, body) {
    const id = ++this.#id;
    const reply = deferred();
    this.#replies.set(id, reply);
    this.#say(id, this.#codec.Message.TYPE_REQUEST, route, body);
    return reply.promise;
  }

  notify(route, body) {
    this.#say(0, this.#codec.Message.TYPE_NOTIFY, route, body);
  }

  close() {
    this.#socket.close();
    return this.closed.promise;
  }

  #say(id, type, route, body) {
    const code = this.#codes[route];
    const bytes = this.#text(body ?? {});
    const message = this.#codec.Message.encode(id, type, code ? 1 : 0, code || route, bytes);
    this.#send(this.#codec.Package.TYPE_DATA, message);
  }

  #send(type, body) {
    this.#socket.send(this.#codec.Package.encode(type, body));
  }

  #handleMessage(bytes, binary) {
    try {
      if (!binary) throw new Error("a message of the server is text");
      [this.#codec.Package.decode(bytes)].flat().forEach((packet) => this.#handlePacket(packet));
    } catch (error) {
      this.#fail(error);
      this.#socket.terminate();
    }
  }

  #handlePacket({ type, body }) {
    const { Message, Package } = this.#codec;
    if (type === Package.TYPE_HANDSHAKE) this.#handleHandshake(this.#value(body));
    else if (type === Package.TYPE_HEARTBEAT) this.#handleBeat();
    else if (type === Package.TYPE_DATA) this.#handleData(Message.decode(body));
    else if (type === Package.TYPE_KICK) this.kicks.push(body);
    else throw new Error(`a packet of type ${type}`);
  }

  #handleHandshake(handshake) {
    this.handshake = handshake;
    this.#codes = handshake.sys.dict;
    for (const route in this.#codes) this.#names[this.#codes[route]] = route;
    this.#send(this.#codec.Package.TYPE_HANDSHAKE_ACK);
    this.#ready.resolve();
  }

  #handleBeat() {
    this.beats.received++;
    if (this.#beating || this.muted) return;
    this.#beating = setTimeout(() => {
      this.#beating = undefined;
      this.beats.sent++;
      this.#send(this.#codec.Package.TYPE_HEARTBEAT);
    }, this.handshake.sys.heartbeat * 1000);
  }

  #handleData(message) {
    this.messages.push(message);
    const value = this.#value(message.body);
    if (message.type === this.#codec.Message.TYPE_RESPONSE) {
      this.#replies.get(message.id).resolve(value);
      this.#replies.delete(message.id);
    } else {
      const { compressRoute, route } = message;
      this.pushes.push([compressRoute ? this.#names[route] : route, value]);
    }
  }

  #fail(error) {
    for (const waiting of [this.#ready, ...this.#replies.values()]) waiting.reject(error);
    this.#replies.clear();
  }

  #text(value) {
    return this.#codec.strencode(JSON.stringify(value));
  }

  #value(bytes) {
    return JSON.parse(this.#codec.strdecode(bytes));
  }
};

function deferred() {
  const deferred = {};
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }));
  return deferred;
}

const HELLO = { sys: { type: "js-websocket", version: "0.0.1", rsa: {} }, user: {} };
