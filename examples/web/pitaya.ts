// A client of Pitaya servers for browsers and Node, without dependencies: requests, notifies and
// pushes over a WebSocket that comes back by itself when it is lost.
//
//     const client = new Client("ws://127.0.0.1:3250/");
//     client.on("onJoin", (name) => console.log(`${name} is here`));
//     await client.open();
//     const { greeting } = await client.request("hall.join", { name: "ada" });
//
// docs/web-client.md is the guide. The `.js` beside each file is the same, compiled.

import { Connection, noConnection } from "./connection.js";
import type { Settings, Socket, Timer } from "./connection.js";
import { CAN_INFLATE, EMPTY, PitayaError } from "./wire.js";
import type { Server } from "./wire.js";

export { PitayaError };
export type { Server, Socket };

/** The routes of a server with their types; the interface of yours makes calls checked. */
export interface Api {
  /** `"hall.join": [Join, Joined]`: what is sent and what comes back. */
  requests: object;
  /** `"hall.wave": Wave`: what is sent. */
  notifies: object;
  /** `"onJoin": string`: what comes. */
  pushes: object;
}

/** Any route, and any value with it. */
export interface AnyApi extends Api {
  requests: Record<string, [any, any]>;
  notifies: Record<string, any>;
  pushes: Record<string, any>;
}

/** What to connect with. Everything has a default. */
export interface Options {
  /** Data for the server's application, sent with the handshake; a function is asked each time. */
  user?: object | (() => object);
  /** The version of the application, for the server to know. */
  clientVersion?: string;
  /** How values are written; JSON unless told. */
  codec?: Codec;
  /** How to come back after a loss; `false` is not at all. */
  reconnect?: Partial<Reconnect> | false;
  limits?: Partial<Limits>;
  /** The class to connect with, where there is no global `WebSocket`, as in Node 20. */
  WebSocket?: new (url: string) => Socket;
}

/** The wait before the nth attempt doubles from `delayMsMin` up to `delayMsMax`, half of it at
 * random, so that the clients of a server that restarts do not all come in the same moment. */
export interface Reconnect {
  attemptsMax: number;
  delayMsMin: number;
  delayMsMax: number;
}

export interface Limits {
  /** From dialling until the server has accepted the handshake. */
  connectTimeoutMs: number;
  /** How long a request waits for its reply. */
  requestDeadlineMs: number;
  /** Requests that wait for their reply. */
  inFlightMax: number;
  /** One message that is sent; the default is what a server takes by default. */
  sentBytesMax: number;
  /** One packet that is received, also after inflating. */
  receivedBytesMax: number;
  /** What may wait in the socket before calls are refused. */
  outboundBytesMax: number;
  /** Packets that may wait for one before them to be inflated. */
  waitingPacketsMax: number;
}

/** How values become bytes. Arguments that are a `Uint8Array` pass as they are. */
export interface Codec {
  /** What the server has to name in its handshake. */
  name: string;
  encode(value: unknown, route: string): Uint8Array;
  decode(body: Uint8Array, route: string): unknown;
  decodeError(body: Uint8Array): { code?: unknown; msg?: unknown; metadata?: unknown };
}

/** Where a client stands; for a user interface. */
export type State =
  | { phase: "idle" }
  | { phase: "connecting" }
  | { phase: "open"; server: Server }
  | { phase: "reconnecting"; reason: Reason; attempt: number; delayMs: number }
  | { phase: "closed"; reason: Reason };

/** Why a connection ended. */
export interface Reason {
  kind:
    | "closed" // `close` was called
    | "kicked" // the server wants this client gone; `detail` is the reason it gives
    | "lost" // the connection broke
    | "protocol" // the server sent what it must not
    | "refused" // the server does not accept the handshake
    | "silent" // nothing came for two and a half heartbeats
    | "timeout" // the handshake took too long
    | "unreachable"; // nobody answers there
  detail: string;
}

/** What was dropped so far; the numbers only grow. */
export interface Counters {
  /** Pushes without a listener, or that do not decode. */
  pushesDropped: number;
  /** Replies that came after their deadline. */
  repliesLate: number;
  requestsExpired: number;
  /** Requests and notifies that were not sent. */
  callsRefused: number;
}

/** A client of one server. Listeners stay over reconnects; requests do not: those in flight fail
 * when the connection is lost, since nobody knows whether the server ran them. */
export class Client<A extends Api = AnyApi> {
  readonly counters: Counters = {
    callsRefused: 0,
    pushesDropped: 0,
    repliesLate: 0,
    requestsExpired: 0,
  };
  readonly #url: string;
  readonly #settings: Settings;
  readonly #listeners = new Map<string, Set<(value: any) => void>>();
  readonly #watchers = new Set<(state: State) => void>();
  #state: State = { phase: "idle" };
  #connection: Connection | undefined;
  #attempts = 0;
  #openedAt = 0;
  #retryTimer: Timer;

  /** A client of the server at `url`: ws, wss, or http and https for the same; on a page also a
   * path such as `/`. It does nothing until `open`. */
  constructor(url: string | URL, options: Options = {}) {
    this.#url = webSocketUrl(url);
    this.#settings = settingsOf(options);
  }

  get state(): State {
    return this.#state;
  }

  /** Connects, and keeps connected until `close`, a kick or a refusal. Resolves when the client is
   * open for the first time, and rejects when it is closed before. */
  open(): Promise<void> {
    if (this.#state.phase === "idle" || this.#state.phase === "closed") {
      this.#attempts = 0;
      this.#change({ phase: "connecting" });
      this.#dial();
    }
    return new Promise((resolve, reject) => {
      const watcher = (state: State) => {
        if (state.phase !== "open" && state.phase !== "closed") return;
        this.#watchers.delete(watcher);
        if (state.phase === "open") resolve();
        else reject(noConnection(state.reason));
      };
      this.#watchers.add(watcher);
      watcher(this.#state);
    });
  }

  /** Ends the connection, once what was sent before has left. Requests in flight fail. */
  close(): void {
    const reason: Reason = { kind: "closed", detail: "" };
    clearTimeout(this.#retryTimer);
    this.#connection?.end(reason);
    if (this.#state.phase !== "closed") this.#change({ phase: "closed", reason });
  }

  /** Tries again now and not after the wait; for a page that hears it is `online` again. */
  retry(): void {
    if (this.#state.phase === "reconnecting" && this.#connection === undefined) {
      clearTimeout(this.#retryTimer);
      this.#dial();
    }
  }

  /** Calls `watcher` with the state as it is, and at each change; the result ends that. */
  watch(watcher: (state: State) => void): () => void {
    this.#watchers.add(watcher);
    watcher(this.#state);
    return () => void this.#watchers.delete(watcher);
  }

  /** Calls `listener` with each push of a route, in the order of the server; the result ends it. */
  on<R extends Name<A["pushes"]>>(
    route: R,
    listener: (value: A["pushes"][R]) => void,
  ): () => void {
    const listeners = this.#listeners.get(route) ?? new Set();
    this.#listeners.set(route, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Asks the server. The reply comes, or a `PitayaError`, and at the latest at the deadline. */
  request<R extends Name<A["requests"]>>(
    route: R,
    ...[argument, options]: Arguments<Part<A["requests"][R], 0>, { deadlineMs?: number }>
  ): Promise<Part<A["requests"][R], 1>> {
    return new Promise((resolve, reject) => {
      const { codec, limits } = this.#settings;
      const decode = (body: Uint8Array) => codec.decode(body, route) as any;
      const deadlineMs = options?.deadlineMs ?? limits.requestDeadlineMs;
      this.#send(route, argument, (connection, body) => {
        connection.request(route, body, { decode, resolve, reject }, deadlineMs);
      });
    });
  }

  /** Tells the server something that has no reply; nothing says whether it arrives. Throws a
   * `PitayaError` when it cannot be sent. */
  notify<R extends Name<A["notifies"]>>(
    route: R,
    ...[argument]: Arguments<A["notifies"][R], never>
  ): void {
    this.#send(route, argument, (connection, body) => connection.notify(route, body));
  }

  #send(route: string, value: unknown, send: (to: Connection, body: Uint8Array) => void): void {
    const { codec } = this.#settings;
    const body = value instanceof Uint8Array ? value : codec.encode(value, route);
    try {
      if (this.#state.phase !== "open" || this.#connection === undefined) {
        throw noConnection("reason" in this.#state ? this.#state.reason : undefined);
      }
      send(this.#connection, body);
    } catch (refusal) {
      this.counters.callsRefused += 1;
      throw refusal;
    }
  }

  #dial(): void {
    this.#connection = new Connection(this.#url, this.#settings, this.counters, {
      handleOpen: (server) => {
        this.#openedAt = Date.now();
        this.#change({ phase: "open", server });
      },
      handlePush: (route, body) => this.#handlePush(route, body),
      handleEnd: (reason) => this.#handleEnd(reason),
    });
  }

  #handlePush(route: string, body: Uint8Array): void {
    const listeners = [...(this.#listeners.get(route) ?? [])];
    try {
      if (listeners.length === 0) throw new Error("nobody listens");
      const value = this.#settings.codec.decode(body, route);
      for (const listener of listeners) callOut(() => listener(value));
    } catch {
      this.counters.pushesDropped += 1;
    }
  }

  #handleEnd(reason: Reason): void {
    const { reconnect } = this.#settings;
    const wasOpen = this.#state.phase === "open";
    // Who is thrown out right after each handshake must not come back at full speed.
    if (wasOpen && Date.now() - this.#openedAt > STABLE_MS) this.#attempts = 0;
    this.#connection = undefined;
    const final = FINAL.has(reason.kind) || !reconnect || this.#attempts >= reconnect.attemptsMax;
    if (final) return this.#change({ phase: "closed", reason });
    this.#attempts += 1;
    const delayMs = backoffMs(this.#attempts, reconnect);
    this.#retryTimer = setTimeout(() => this.#dial(), delayMs);
    this.#change({ phase: "reconnecting", reason, attempt: this.#attempts, delayMs });
  }

  #change(state: State): void {
    this.#state = state;
    for (const watcher of [...this.#watchers]) {
      // A watcher may have changed it again, and then all have heard of that.
      if (this.#state === state && this.#watchers.has(watcher)) callOut(() => watcher(state));
    }
  }
}

type Name<Routes> = keyof Routes & string;
type Part<Pair, I extends 0 | 1> = Pair extends readonly [infer Sent, infer Got]
  ? [Sent, Got][I]
  : never;
type Arguments<Argument, Rest> = undefined extends Argument
  ? [argument?: Argument, options?: Rest]
  : [argument: Argument, options?: Rest];

function settingsOf(options: Options): Settings {
  const { user, codec = json, clientVersion = "" } = options;
  const WebSocket = options.WebSocket ?? (globalThis.WebSocket as Settings["WebSocket"]);
  if (WebSocket === undefined) throw new TypeError("no WebSocket here: pass one as an option");
  const reconnect = options.reconnect !== false && { ...RECONNECT, ...options.reconnect };
  const library = CAN_INFLATE
    ? { libVersion: `${VERSION}-pitaya-rust` }
    : { type: "js-websocket", version: VERSION };
  return {
    user: () => (typeof user === "function" ? user() : user),
    sys: { platform: "web", ...library, clientBuildNumber: "1", clientVersion },
    codec,
    reconnect,
    limits: { ...LIMITS, ...options.limits },
    WebSocket,
  };
}

function webSocketUrl(url: string | URL): string {
  const whole = new URL(url, globalThis.location?.href);
  whole.protocol = whole.protocol.replace(/^http/, "ws");
  whole.hash = "";
  if (!/^wss?:$/.test(whole.protocol)) throw new TypeError(`not the URL of a server: ${url}`);
  return whole.href;
}

function backoffMs(attempt: number, { delayMsMin, delayMsMax }: Reconnect): number {
  const whole = Math.min(delayMsMin * 2 ** (attempt - 1), delayMsMax);
  return Math.round(whole * (0.5 + Math.random() / 2));
}

/** What listeners of the application throw is theirs, and stops nothing here. */
function callOut(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

const utf8 = new TextEncoder();
const text = new TextDecoder();

const json: Codec = {
  name: "json",
  encode: (value) => (value === undefined ? EMPTY : utf8.encode(JSON.stringify(value))),
  decode: (body) => (body.length === 0 ? undefined : JSON.parse(text.decode(body))),
  decodeError: (body) => JSON.parse(text.decode(body)),
};

const VERSION = "0.1.0";

const RECONNECT: Reconnect = { attemptsMax: Infinity, delayMsMin: 500, delayMsMax: 15_000 };
const LIMITS: Limits = {
  connectTimeoutMs: 5_000,
  requestDeadlineMs: 5_000,
  inFlightMax: 64,
  sentBytesMax: 65_536,
  receivedBytesMax: 0xff_ffff,
  outboundBytesMax: 1_048_576,
  waitingPacketsMax: 1_024,
};

/** After these a new attempt would end the same way, or against the will of the other side. */
const FINAL: ReadonlySet<Reason["kind"]> = new Set(["closed", "kicked", "refused"] as const);
const STABLE_MS = 10_000;

