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
import { CAN_INFLATE, EMPTY, PitayaError } from "./wire.js";
export { PitayaError };
/** A client of one server. Listeners stay over reconnects; requests do not: those in flight fail
 * when the connection is lost, since nobody knows whether the server ran them. */
export class Client {
    counters = {
        callsRefused: 0,
        pushesDropped: 0,
        repliesLate: 0,
        requestsExpired: 0,
    };
    #url;
    #settings;
    #listeners = new Map();
    #watchers = new Set();
    #state = { phase: "idle" };
    #connection;
    #attempts = 0;
    #openedAt = 0;
    #retryTimer;
    /** A client of the server at `url`: ws, wss, or http and https for the same; on a page also a
     * path such as `/`. It does nothing until `open`. */
    constructor(url, options = {}) {
        this.#url = webSocketUrl(url);
        this.#settings = settingsOf(options);
    }
    get state() {
        return this.#state;
    }
    /** Connects, and keeps connected until `close`, a kick or a refusal. Resolves when the client is
     * open for the first time, and rejects when it is closed before. */
    open() {
        if (this.#state.phase === "idle" || this.#state.phase === "closed") {
            this.#attempts = 0;
            this.#change({ phase: "connecting" });
            this.#dial();
        }
        return new Promise((resolve, reject) => {
            const watcher = (state) => {
                if (state.phase !== "open" && state.phase !== "closed")
                    return;
                this.#watchers.delete(watcher);
                if (state.phase === "open")
                    resolve();
                else
                    reject(noConnection(state.reason));
            };
            this.#watchers.add(watcher);
            watcher(this.#state);
        });
    }
    /** Ends the connection, once what was sent before has left. Requests in flight fail. */
    close() {
        const reason = { kind: "closed", detail: "" };
        clearTimeout(this.#retryTimer);
        this.#connection?.end(reason);
        if (this.#state.phase !== "closed")
            this.#change({ phase: "closed", reason });
    }
    /** Tries again now and not after the wait; for a page that hears it is `online` again. */
    retry() {
        if (this.#state.phase === "reconnecting" && this.#connection === undefined) {
            clearTimeout(this.#retryTimer);
            this.#dial();
        }
    }
    /** Calls `watcher` with the state as it is, and at each change; the result ends that. */
    watch(watcher) {
        this.#watchers.add(watcher);
        watcher(this.#state);
        return () => void this.#watchers.delete(watcher);
    }
    /** Calls `listener` with each push of a route, in the order of the server; the result ends it. */
    on(route, listener) {
        const listeners = this.#listeners.get(route) ?? new Set();
        this.#listeners.set(route, listeners.add(listener));
        return () => void listeners.delete(listener);
    }
    /** Asks the server. The reply comes, or a `PitayaError`, and at the latest at the deadline. */
    request(route, ...[argument, options]) {
        return new Promise((resolve, reject) => {
            const { codec, limits } = this.#settings;
            const decode = (body) => codec.decode(body, route);
            const deadlineMs = options?.deadlineMs ?? limits.requestDeadlineMs;
            this.#send(route, argument, (connection, body) => {
                connection.request(route, body, { decode, resolve, reject }, deadlineMs);
            });
        });
    }
    /** Tells the server something that has no reply; nothing says whether it arrives. Throws a
     * `PitayaError` when it cannot be sent. */
    notify(route, ...[argument]) {
        this.#send(route, argument, (connection, body) => connection.notify(route, body));
    }
    #send(route, value, send) {
        const { codec } = this.#settings;
        const body = value instanceof Uint8Array ? value : codec.encode(value, route);
        try {
            if (this.#state.phase !== "open" || this.#connection === undefined) {
                throw noConnection("reason" in this.#state ? this.#state.reason : undefined);
            }
            send(this.#connection, body);
        }
        catch (refusal) {
            this.counters.callsRefused += 1;
            throw refusal;
        }
    }
    #dial() {
        this.#connection = new Connection(this.#url, this.#settings, this.counters, {
            handleOpen: (server) => {
                this.#openedAt = Date.now();
                this.#change({ phase: "open", server });
            },
            handlePush: (route, body) => this.#handlePush(route, body),
            handleEnd: (reason) => this.#handleEnd(reason),
        });
    }
    #handlePush(route, body) {
        const listeners = [...(this.#listeners.get(route) ?? [])];
        try {
            if (listeners.length === 0)
                throw new Error("nobody listens");
            const value = this.#settings.codec.decode(body, route);
            for (const listener of listeners)
                callOut(() => listener(value));
        }
        catch {
            this.counters.pushesDropped += 1;
        }
    }
    #handleEnd(reason) {
        const { reconnect } = this.#settings;
        const wasOpen = this.#state.phase === "open";
        // Who is thrown out right after each handshake must not come back at full speed.
        if (wasOpen && Date.now() - this.#openedAt > STABLE_MS)
            this.#attempts = 0;
        this.#connection = undefined;
        const final = FINAL.has(reason.kind) || !reconnect || this.#attempts >= reconnect.attemptsMax;
        if (final)
            return this.#change({ phase: "closed", reason });
        this.#attempts += 1;
        const delayMs = backoffMs(this.#attempts, reconnect);
        this.#retryTimer = setTimeout(() => this.#dial(), delayMs);
        this.#change({ phase: "reconnecting", reason, attempt: this.#attempts, delayMs });
    }
    #change(state) {
        this.#state = state;
        for (const watcher of [...this.#watchers]) {
            // A watcher may have changed it again, and then all have heard of that.
            if (this.#state === state && this.#watchers.has(watcher))
                callOut(() => watcher(state));
        }
    }
}
function settingsOf(options) {
    const { user, codec = json, clientVersion = "" } = options;
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (WebSocket === undefined)
        throw new TypeError("no WebSocket here: pass one as an option");
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
function webSocketUrl(url) {
    const whole = new URL(url, globalThis.location?.href);
    whole.protocol = whole.protocol.replace(/^http/, "ws");
    whole.hash = "";
    if (!/^wss?:$/.test(whole.protocol))
        throw new TypeError(`not the URL of a server: ${url}`);
    return whole.href;
}
function backoffMs(attempt, { delayMsMin, delayMsMax }) {
    const whole = Math.min(delayMsMin * 2 ** (attempt - 1), delayMsMax);
    return Math.round(whole * (0.5 + Math.random() / 2));
}
/** What listeners of the application throw is theirs, and stops nothing here. */
function callOut(listener) {
    try {
        listener();
    }
    catch (error) {
        queueMicrotask(() => {
            throw error;
        });
    }
}
const utf8 = new TextEncoder();
const text = new TextDecoder();
const json = {
    name: "json",
    encode: (value) => (value === undefined ? EMPTY : utf8.encode(JSON.stringify(value))),
    decode: (body) => (body.length === 0 ? undefined : JSON.parse(text.decode(body))),
    decodeError: (body) => JSON.parse(text.decode(body)),
};
const VERSION = "0.1.0";
const RECONNECT = { attemptsMax: Infinity, delayMsMin: 500, delayMsMax: 15_000 };
const LIMITS = {
    connectTimeoutMs: 5_000,
    requestDeadlineMs: 5_000,
    inFlightMax: 64,
    sentBytesMax: 65_536,
    receivedBytesMax: 0xff_ffff,
    outboundBytesMax: 1_048_576,
    waitingPacketsMax: 1_024,
};
/** After these a new attempt would end the same way, or against the will of the other side. */
const FINAL = new Set(["closed", "kicked", "refused"]);
const STABLE_MS = 10_000;
