// One connection to a server, from dialling to its end: handshake, heartbeats, requests in flight,
// and pushes in the order in which they came.

import {
  ACCEPTED, BODY_BYTES_MAX, DATA, EMPTY, HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, KICK, NOTIFY, PUSH,
  PitayaError, REQUEST, RESPONSE, ZLIB, decodeMessage, decodePackets, encodeMessage, encodePacket,
  inflate, kickReason, parseAnswer,
} from "./wire.js";
import type { Packet, Received, Sent, Server } from "./wire.js";
import type { Codec, Counters, Limits, Reason, Reconnect } from "./pitaya.js";

/** One connection, from dialling to its end, which is told exactly once. */
export class Connection {
  readonly #settings: Settings;
  readonly #counters: Counters;
  readonly #owner: Owner;
  readonly #socket: Socket | undefined;
  readonly #calls = new Map<number, Call>();
  /** Packets, and the end of the stream, behind one that is being inflated. */
  readonly #steps: Step[] = [];
  #stepping = false;
  #connected = false;
  #ended = false;
  #server: Server | undefined;
  #routes = new Map<number, string>();
  #lastId = 0;
  #connectTimer: Timer;
  #beatTimer: Timer;
  #silentHalves = 0;
  #beaten = false;

  constructor(url: string, settings: Settings, counters: Counters, owner: Owner) {
    this.#settings = settings;
    this.#counters = counters;
    this.#owner = owner;
    const expire = () => this.end({ kind: "timeout", detail: "" });
    this.#connectTimer = setTimeout(expire, settings.limits.connectTimeoutMs);
    try {
      this.#socket = new settings.WebSocket(url);
    } catch (error) {
      queueMicrotask(() => this.end({ kind: "unreachable", detail: textOf(error) }));
      return;
    }
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#handleConnected();
    this.#socket.onmessage = (event) => this.#handleBytes(event.data);
    this.#socket.onerror = () => {}; // a close follows, and says as much
    this.#socket.onclose = (event) => {
      const kind = this.#connected ? "lost" : "unreachable";
      const detail = event.reason || `code ${event.code}`;
      this.#inOrder(() => this.end({ kind, detail }));
    };
  }

  request(route: string, body: Uint8Array, waiter: Waiter, deadlineMs: number): void {
    if (this.#calls.size >= this.#settings.limits.inFlightMax) {
      throw new PitayaError("PIT-429", "too many requests in flight");
    }
    const id = this.#lastId + 1;
    this.#sendMessage({ kind: REQUEST, id, route: this.#coded(route), body });
    this.#lastId = id;
    const timer = setTimeout(() => {
      this.#calls.delete(id);
      this.#counters.requestsExpired += 1;
      waiter.reject(new PitayaError("PIT-504", "request timeout", { route }));
    }, deadlineMs);
    this.#calls.set(id, { waiter, timer });
  }

  notify(route: string, body: Uint8Array): void {
    this.#sendMessage({ kind: NOTIFY, id: 0, route: this.#coded(route), body });
  }

  end(reason: Reason): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#beatTimer);
    this.#steps.length = 0;
    this.#socket?.close();
    for (const { waiter, timer } of this.#calls.values()) {
      clearTimeout(timer);
      waiter.reject(noConnection(reason));
    }
    this.#owner.handleEnd(reason);
  }

  #handleConnected(): void {
    if (this.#ended) return;
    this.#connected = true;
    const user = this.#settings.user();
    const { sys } = this.#settings;
    this.#sendPacket(HANDSHAKE, utf8.encode(JSON.stringify(user ? { sys, user } : { sys })));
  }

  #handleBytes(data: unknown): void {
    this.#silentHalves = 0;
    try {
      if (!(data instanceof ArrayBuffer)) throw new Error("a text message");
      for (const packet of decodePackets(new Uint8Array(data), this.#receivedBytesMax)) {
        this.#inOrder(() => this.#handlePacket(packet));
      }
    } catch (breach) {
      // The packets before it were good.
      this.#inOrder(() => Promise.reject(breach));
    }
  }

  /** Inflating takes turns of the event loop; what comes behind must not overtake it. */
  #inOrder(step: Step): void {
    if (this.#ended) return;
    if (this.#steps.length >= this.#settings.limits.waitingPacketsMax) {
      return this.end({ kind: "protocol", detail: "more comes than can be inflated" });
    }
    this.#steps.push(step);
    if (!this.#stepping) void this.#runSteps();
  }

  async #runSteps(): Promise<void> {
    this.#stepping = true;
    try {
      for (let step = this.#steps.shift(); step; step = this.#steps.shift()) {
        const pending = step();
        if (pending) await pending;
      }
    } catch (breach) {
      this.end({ kind: "protocol", detail: textOf(breach) });
    }
    this.#stepping = false;
  }

  #handlePacket({ kind, body }: Packet): void | Promise<void> {
    if (kind === KICK) return this.end({ kind: "kicked", detail: kickReason(body) });
    if (kind === HANDSHAKE && this.#server === undefined) return this.#handleHandshake(body);
    if (kind === DATA && this.#server !== undefined) return this.#handleMessage(body);
    if (kind === HEARTBEAT && this.#server !== undefined) return this.#handleBeat();
    throw new Error(`unexpected packet of type ${kind}`);
  }

  #handleHandshake(body: Uint8Array): void | Promise<void> {
    if (body[0] !== ZLIB) return this.#handleAnswer(body);
    return inflate(body, this.#receivedBytesMax).then((inflated) => this.#handleAnswer(inflated));
  }

  #handleAnswer(body: Uint8Array): void {
    if (this.#ended) return;
    const { code, server } = parseAnswer(body);
    if (code !== ACCEPTED) return this.end({ kind: "refused", detail: `code ${code}` });
    if (server.serializer !== this.#settings.codec.name) {
      const detail = `the server speaks ${server.serializer}`;
      return this.end({ kind: "refused", detail });
    }
    clearTimeout(this.#connectTimer);
    this.#server = server;
    for (const [route, code] of server.dictionary) this.#routes.set(code, route);
    this.#sendPacket(HANDSHAKE_ACK, EMPTY);
    if (server.heartbeatSeconds > 0) this.#keepBeating(server.heartbeatSeconds);
    this.#owner.handleOpen(server);
  }

  #keepBeating(seconds: number): void {
    const halfMs = Math.min(Math.max(seconds, 1), HEARTBEAT_SECONDS_MAX) * 500;
    let isWhole = false;
    const half = () => {
      this.#silentHalves += 1;
      if (this.#silentHalves > SILENT_HALVES_MAX) return this.end({ kind: "silent", detail: "" });
      if (isWhole) this.#beat();
      isWhole = !isWhole;
      this.#beatTimer = setTimeout(half, halfMs);
    };
    this.#beatTimer = setTimeout(half, halfMs);
  }

  #beat(): void {
    this.#beaten = true;
    this.#sendPacket(HEARTBEAT, EMPTY);
  }

  /** Browsers slow down the timers of a tab in the background, but not what it receives: answering
   * the server's beats keeps such a tab connected. */
  #handleBeat(): void {
    if (!this.#beaten) this.#beat();
    this.#beaten = false;
  }

  #handleMessage(bytes: Uint8Array): void | Promise<void> {
    const message = decodeMessage(bytes);
    if (!message.isDeflated) return this.#deliver(message);
    return inflate(message.body, this.#receivedBytesMax).then((body) => {
      return this.#ended ? undefined : this.#deliver({ ...message, body });
    });
  }

  #deliver({ kind, id, route, isError, body }: Received): void | Promise<void> {
    if (kind === PUSH) return this.#owner.handlePush(this.#named(route), body);
    if (kind !== RESPONSE) throw new Error("a message that only a client sends");
    const call = this.#calls.get(id);
    if (call === undefined) {
      this.#counters.repliesLate += 1;
      return;
    }
    this.#calls.delete(id);
    clearTimeout(call.timer);
    this.#settle(call.waiter, isError, body);
    // Whoever awaits the reply goes on before the listeners of a push behind it.
    return Promise.resolve();
  }

  #settle({ decode, resolve, reject }: Waiter, isError: boolean, body: Uint8Array): void {
    try {
      if (isError) reject(serverError(this.#settings.codec.decodeError(body)));
      else resolve(decode(body));
    } catch (error) {
      reject(new PitayaError("PIT-000", `the reply does not decode: ${textOf(error)}`));
    }
  }

  #coded(route: string): string | number {
    return this.#server?.dictionary.get(route) ?? route;
  }

  #named(route: string | number): string {
    const name = typeof route === "string" ? route : this.#routes.get(route);
    if (name === undefined) throw new Error(`route code ${route} is not in the dictionary`);
    return name;
  }

  #sendMessage(message: Sent): void {
    const bytes = encodeMessage(message);
    const { outboundBytesMax, sentBytesMax } = this.#settings.limits;
    if (bytes.length > Math.min(sentBytesMax, BODY_BYTES_MAX)) {
      throw new PitayaError("PIT-413", `a message of ${bytes.length} bytes is too long`);
    }
    if ((this.#socket?.bufferedAmount ?? 0) > outboundBytesMax) {
      throw new PitayaError("PIT-429", "too much waits to be sent");
    }
    this.#sendPacket(DATA, bytes);
  }

  #sendPacket(kind: number, body: Uint8Array): void {
    if (this.#ended || this.#socket?.readyState !== SOCKET_OPEN) return; // its close is on the way
    this.#socket.send(encodePacket({ kind, body }));
  }

  get #receivedBytesMax(): number {
    return this.#settings.limits.receivedBytesMax;
  }
}

/** The options, each with its default. */
export interface Settings {
  user: () => object | undefined;
  sys: object;
  codec: Codec;
  reconnect: Reconnect | false;
  limits: Limits;
  WebSocket: new (url: string) => Socket;
}

/** What is used of a WebSocket. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** Who is told what happens. */
export interface Owner {
  handleOpen(server: Server): void;
  handlePush(route: string, body: Uint8Array): void;
  handleEnd(reason: Reason): void;
}

interface Waiter {
  decode(body: Uint8Array): any;
  resolve(value: any): void;
  reject(error: PitayaError): void;
}

interface Call {
  waiter: Waiter;
  timer: Timer;
}

type Step = () => void | Promise<void>;
export type Timer = ReturnType<typeof setTimeout> | undefined;

function serverError(error: ReturnType<Codec["decodeError"]>): PitayaError {
  const { code, msg, metadata } = error ?? {};
  const said = typeof metadata === "object" && metadata !== null ? Object.entries(metadata) : [];
  const texts = said.map(([key, value]) => [key, String(value)]);
  return new PitayaError(String(code ?? "PIT-000"), String(msg ?? ""), Object.fromEntries(texts));
}

/** The error of what is asked when nobody can answer. */
export function noConnection(reason?: Reason): PitayaError {
  const why = reason ? [reason.kind, reason.detail].filter(Boolean).join(": ") : "not open";
  return new PitayaError("PIT-499", `no connection: ${why}`, { reason: why });
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const utf8 = new TextEncoder();

const SILENT_HALVES_MAX = 5;
const HEARTBEAT_SECONDS_MAX = 86_400;
const SOCKET_OPEN = 1;
