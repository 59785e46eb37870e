// The bytes between a client and a server, as docs/protocol.md has them: packets, messages and what
// handshakes and kicks say. It knows no socket and no clock.

/** An error of the server, with its code; or of our own: PIT-504 when no reply came in time,
 * PIT-499 when there is no connection, PIT-429 when too much is in flight, PIT-413 when a message
 * is too long, PIT-000 when a reply does not decode. Only the server's tell whether the handler
 * ran. */
export class PitayaError extends Error {
  readonly code: string;
  readonly metadata: Record<string, string>;

  constructor(code: string, message: string, metadata: Record<string, string> = {}) {
    super(message);
    this.name = "PitayaError";
    this.code = code;
    this.metadata = metadata;
  }
}

/** What the server said in its handshake. */
export interface Server {
  heartbeatSeconds: number;
  serializer: string;
  dictionary: ReadonlyMap<string, number>;
}

export interface Packet {
  kind: number;
  body: Uint8Array;
}

/** A message as it is sent; a route that is a number is a code of the dictionary. */
export interface Sent {
  kind: number;
  id: number;
  route: string | number;
  body: Uint8Array;
}

/** A message as it is received; the body may still be compressed. */
export interface Received extends Sent {
  isError: boolean;
  isDeflated: boolean;
}

export function encodePacket({ kind, body }: Packet): Uint8Array<ArrayBuffer> {
  const length = body.length;
  if (length > BODY_BYTES_MAX) throw new RangeError(`a body of ${length} bytes`);
  const bytes = new Uint8Array(HEADER_BYTES + length);
  bytes.set([kind, length >> 16, (length >> 8) & 0xff, length & 0xff]);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** The packets of one WebSocket message, each of which has to be whole. */
export function* decodePackets(bytes: Uint8Array, bodyBytesMax: number): Generator<Packet> {
  let rest = bytes;
  while (rest.length > 0) {
    const kind = rest[0]!;
    if (kind < HANDSHAKE || kind > KICK) throw new Error(`no packet has type ${kind}`);
    if (rest.length < HEADER_BYTES) throw new Error("a header that is cut off");
    const length = (rest[1]! << 16) | (rest[2]! << 8) | rest[3]!;
    if (length > bodyBytesMax) throw new Error(`a body of ${length} bytes`);
    if (rest.length < HEADER_BYTES + length) throw new Error("a packet that is cut off");
    yield { kind, body: rest.subarray(HEADER_BYTES, HEADER_BYTES + length) };
    rest = rest.subarray(HEADER_BYTES + length);
  }
}

export function encodeMessage({ kind, id, route, body }: Sent): Uint8Array {
  const bytes = [(kind << 1) | (typeof route === "number" ? CODED : 0)];
  if (kind === REQUEST) encodeId(id, bytes);
  if (typeof route === "number") {
    bytes.push(route >> 8, route & 0xff);
  } else {
    const name = utf8.encode(route);
    if (name.length > ROUTE_BYTES_MAX) {
      throw new PitayaError("PIT-413", `a route of ${name.length} bytes is too long`);
    }
    bytes.push(name.length, ...name);
  }
  const message = new Uint8Array(bytes.length + body.length);
  message.set(bytes);
  message.set(body, bytes.length);
  return message;
}

export function decodeMessage(bytes: Uint8Array): Received {
  const flag = bytes[0] ?? 0;
  const kind = (flag >> 1) & 7;
  if (bytes.length < 2) throw new Error("a message of less than two bytes");
  if (kind > PUSH) throw new Error(`no message has kind ${kind}`);
  const hasId = kind === REQUEST || kind === RESPONSE;
  const [id, behindId] = hasId ? decodeId(bytes, 1) : [0, 1];
  const isCoded = (flag & CODED) !== 0;
  const [route, at] = kind === RESPONSE ? ["", behindId] : decodeRoute(bytes, behindId, isCoded);
  const isError = kind === RESPONSE && (flag & ERROR) !== 0;
  const isDeflated = (flag & DEFLATED) !== 0;
  return { kind, id, route, isError, isDeflated, body: bytes.subarray(at) };
}

/** Groups of seven bits, lowest first. Not by shifts, which end at 32 bits. */
function encodeId(id: number, bytes: number[]): void {
  for (; id >= 0x80; id = Math.floor(id / 0x80)) bytes.push((id % 0x80) | 0x80);
  bytes.push(id);
}

function decodeId(bytes: Uint8Array, from: number): [id: number, end: number] {
  let id = 0;
  for (let at = from; at < Math.min(bytes.length, from + ID_BYTES_MAX); at += 1) {
    id += (bytes[at]! & 0x7f) * 0x80 ** (at - from);
    if (bytes[at]! < 0x80) return [id, at + 1];
  }
  throw new Error("an id without an end");
}

function decodeRoute(
  bytes: Uint8Array,
  from: number,
  isCoded: boolean,
): [route: string | number, end: number] {
  const start = isCoded ? from : from + 1;
  const end = start + (isCoded ? 2 : (bytes[from] ?? 0));
  if (end > bytes.length) throw new Error("a route that is cut off");
  if (isCoded) return [(bytes[start]! << 8) | bytes[start + 1]!, end];
  return [text.decode(bytes.subarray(start, end)), end];
}

/** Stops at the limit, also when a few bytes would become very many. */
export async function inflate(body: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  if (!CAN_INFLATE) throw new Error("a compressed body, and nothing here inflates");
  const { readable, writable } = new DecompressionStream("deflate");
  const writer = writable.getWriter();
  const ignore = () => {}; // what goes wrong here goes wrong in the reader too
  writer.write(body as Uint8Array<ArrayBuffer>).catch(ignore);
  writer.close().catch(ignore);
  const reader = readable.getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    length += part.value.length;
    parts.push(part.value);
    if (length <= bytesMax) continue;
    reader.cancel().catch(ignore);
    throw new Error("a compressed body that inflates to too much");
  }
  return joined(parts, length);
}

/** The answer of a server to the handshake. */
export function parseAnswer(body: Uint8Array): { code: unknown; server: Server } {
  const answer = JSON.parse(text.decode(body));
  const sys = answer?.sys ?? {};
  const codes = Object.entries(sys.dict ?? {});
  const isCode = (code: unknown) => Number.isInteger(code) && (code as number) >>> 16 === 0;
  if (!codes.every(([, code]) => isCode(code))) throw new Error("a dictionary with odd codes");
  const server = {
    heartbeatSeconds: Number(sys.heartbeat) || 0,
    serializer: typeof sys.serializer === "string" ? sys.serializer : "json",
    dictionary: new Map(codes as [string, number][]),
  };
  return { code: answer?.code, server };
}

/** Why the server kicks, if it says so. */
export function kickReason(body: Uint8Array): string {
  if (body.length === 0 || body.length > KICK_BYTES_MAX) return "";
  try {
    const { reason } = JSON.parse(text.decode(body));
    return typeof reason === "string" ? reason : "";
  } catch {
    return "";
  }
}

function joined(parts: Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const text = new TextDecoder();
const utf8 = new TextEncoder();

export const CAN_INFLATE = typeof DecompressionStream === "function";
export const EMPTY = new Uint8Array();

// Types of packets.
export const [HANDSHAKE, HANDSHAKE_ACK, HEARTBEAT, DATA, KICK] = [1, 2, 3, 4, 5] as const;
const HEADER_BYTES = 4;
export const BODY_BYTES_MAX = 0xff_ffff;

/** The code of a handshake's answer that lets the client in. */
export const ACCEPTED = 200;

// Kinds and flags of messages.
export const [REQUEST, NOTIFY, RESPONSE, PUSH] = [0, 1, 2, 3] as const;
const [CODED, DEFLATED, ERROR] = [0x01, 0x10, 0x20] as const;
const ROUTE_BYTES_MAX = 255;
const ID_BYTES_MAX = 10;
/** What a zlib stream starts with, and JSON never does. */
export const ZLIB = 0x78;
const KICK_BYTES_MAX = 4_096;
