// What the compiler must accept of a client with an interface, and what it must refuse.

import { Client } from "../../examples/web/pitaya.js";

interface Hall {
  requests: {
    "hall.join": [{ name: string }, { greeting: string }];
    "hall.count": [undefined, number];
  };
  notifies: { "hall.wave": undefined; "hall.say": string };
  pushes: { onJoin: string };
}

export async function accepts(client: Client<Hall>): Promise<string> {
  client.on("onJoin", (name) => name.toUpperCase());
  client.notify("hall.wave");
  client.notify("hall.say", "hello");
  const count: number = await client.request("hall.count", undefined, { deadlineMs: 100 });
  const { greeting } = await client.request("hall.join", { name: "ada" });
  return `${greeting} ${count}`;
}

export async function refuses(client: Client<Hall>): Promise<void> {
  // @ts-expect-error: no such route
  await client.request("hall.jion", { name: "ada" });
  // @ts-expect-error: an argument is missing
  await client.request("hall.join");
  // @ts-expect-error: an argument of another type
  await client.request("hall.join", { nane: "ada" });
  // @ts-expect-error: a reply of another type
  const count: string = await client.request("hall.count");
  // @ts-expect-error: a request is no notify
  client.notify("hall.join", { name: count });
  // @ts-expect-error: a push of another type
  client.on("onJoin", (name: number) => name);
}

export async function leavesUntyped(client: Client): Promise<void> {
  const { anything } = await client.request("any.route", { at: "all" });
  client.on("onAnything", (value) => value.of.it);
  client.notify("any.route", anything);
}
