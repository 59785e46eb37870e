// The page of the chat: what the server pushes goes on the screen, what people do goes out.

import { Client } from "/pitaya.js";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((of) => [of.id, of]));
const client = new Client("/");

/** Of this tab, so that it is the same person after a reload: `{ id, name, room }`. */
const me = { id: randomId(), ...JSON.parse(sessionStorage.getItem("me") ?? "{}") };
let here = [];
let shown = new Set();
let last;
let unread = 0;
let saidTyping = 0;
const typists = new Map();

// From the server.

client.watch((state) => {
  page.line.dataset.phase = page.state.dataset.phase = state.phase;
  page["line-text"].textContent = page.state.textContent = lineText(state);
  page.retry.hidden = state.phase !== "reconnecting" && state.phase !== "closed";
  page.text.disabled = state.phase !== "open";
  page.say.querySelector("button").disabled = state.phase !== "open";
  if (state.phase === "open") void (me.room ? join() : listRooms());
});

client.on("onMessage", (message) => {
  showMessage(message);
  stopTyping(message.from);
  if (document.hidden) unread += 1;
  showTitle();
});

client.on("onJoin", (name) => {
  if (name === me.name) return;
  showNote(`${name} joined`);
  showHere([...here, name]);
});

client.on("onLeave", (name) => {
  showNote(`${name} left`);
  stopTyping(name);
  showHere(here.filter((other) => other !== name));
});

client.on("onTyping", (name) => {
  if (name === me.name) return;
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(() => stopTyping(name), TYPING_MS));
  showTyping();
});

// From people.

page.enter.addEventListener("submit", (event) => {
  event.preventDefault();
  me.name = page.name.value.trim();
  me.room = page["room-name"].value.trim();
  if (me.name && me.room) void join();
});

page.say.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!text) return;
  page.text.value = "";
  saidTyping = 0;
  try {
    await client.request("chat.say", text);
    showError(page.say, "");
  } catch (error) {
    page.text.value ||= text;
    showError(page.say, `Not sent: ${error.message}`);
  }
});

page.text.addEventListener("input", () => {
  if (Date.now() - saidTyping < TYPING_MS / 2 || client.state.phase !== "open") return;
  saidTyping = Date.now();
  client.notify("chat.typing");
});

page.leave.addEventListener("click", () => {
  me.room = undefined;
  remember();
  showDoor();
  client.close(); // hanging up is how one leaves
  client.open().catch(() => {});
});

page.people.addEventListener("click", () => showPeople(page.people.ariaExpanded !== "true"));
page.talk.addEventListener("pointerdown", () => showPeople(false));
addEventListener("keydown", ({ key }) => void (key === "Escape" && showPeople(false)));
page.retry.addEventListener("click", () => (client.retry(), client.open().catch(() => {})));
addEventListener("online", () => client.retry());
addEventListener("focus", () => void (me.room || listRooms()));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) unread = 0;
  showTitle();
});

// Both ways.

async function join() {
  try {
    const { here: names, recent } = await client.request("chat.join", me);
    const isNew = page.title.textContent !== me.room || page.room.hidden;
    remember();
    if (isNew) clearLog();
    showRoom();
    for (const message of recent) showMessage(message);
    showHere(names);
    if (isNew) showNote("you joined");
  } catch (error) {
    if (error.code === "PIT-499") return; // it is tried again when the connection is back
    showDoor();
    me.room = undefined;
    showError(page.enter, error.message);
  }
}

async function listRooms() {
  const rooms = await client.request("chat.rooms").catch(() => ({}));
  const choices = Object.entries(rooms).map(([room, people]) => {
    const choice = element("button", { type: "button", textContent: `${room} ` });
    choice.append(element("span", { textContent: String(people), ariaLabel: `${people} here` }));
    choice.addEventListener("click", () => (page["room-name"].value = room));
    return wrap("li", choice);
  });
  page.rooms.replaceChildren(...choices);
}

// On the screen.

function showDoor() {
  page.room.hidden = true;
  page.door.hidden = false;
  page.name.value = me.name ?? "";
  showError(page.enter, "");
  showTitle();
  page.name.focus();
}

function showRoom() {
  const wasHidden = page.room.hidden;
  page.door.hidden = true;
  page.room.hidden = false;
  page.title.textContent = me.room;
  showTitle();
  if (wasHidden) page.text.focus();
}

function showTitle() {
  const where = page.room.hidden ? "" : `${me.room} · `;
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${where}Pitaya chat`;
}

function showMessage({ from, text, at }) {
  const key = `${at} ${from} ${text}`;
  if (shown.has(key)) return; // it was there before the connection was lost
  shown.add(key);
  const isFirst = last?.from !== from || at - last.at > GROUP_MS;
  last = { from, at };
  const item = element("li", { className: "message", key });
  item.classList.toggle("mine", from === me.name);
  item.classList.toggle("first", isFirst);
  item.append(face(from));
  if (isFirst) {
    const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    item.append(wrap("p", element("b", { textContent: from }), time));
    item.lastChild.className = "by";
  }
  item.append(element("p", { className: "said", textContent: text }));
  showItem(item);
}

function showNote(text) {
  last = undefined;
  showItem(element("li", { className: "note", textContent: text }));
}

/** At the end of the log, which follows unless somebody reads further up. */
function showItem(item) {
  const { scrollHeight, scrollTop, clientHeight } = page.scroll;
  const follows = scrollHeight - scrollTop - clientHeight < 80;
  page.log.append(item);
  while (page.log.children.length > LOG_MAX) {
    shown.delete(page.log.firstChild.key);
    page.log.firstChild.remove();
  }
  if (follows || item.classList.contains("mine")) page.scroll.scrollTop = page.scroll.scrollHeight;
}

function clearLog() {
  page.log.replaceChildren();
  shown = new Set();
  last = undefined;
}

function showHere(names) {
  here = [...new Set(names)].sort((a, b) => a.localeCompare(b));
  page.count.textContent = `${here.length} here`;
  page.faces.replaceChildren(...here.slice(0, 3).map(face));
  const rows = here.map((name) => {
    const row = wrap("li", face(name), element("span", { textContent: name }));
    if (name === me.name) row.append(element("small", { textContent: "you" }));
    return row;
  });
  page.names.replaceChildren(...rows);
}

function showPeople(isOpen) {
  page.people.ariaExpanded = String(isOpen);
}

function showTyping() {
  const names = [...typists.keys()];
  const many = names.length > 2 ? "several people are typing" : `${names.join(" and ")} are typing`;
  const one = `${names[0]} is typing`;
  page["typing-text"].textContent = names.length === 0 ? "" : names.length === 1 ? one : many;
}

function stopTyping(name) {
  clearTimeout(typists.get(name));
  if (typists.delete(name)) showTyping();
}

function showError(form, text) {
  form.querySelector(".error").textContent = text;
}

function lineText(state) {
  if (state.phase === "open") return "Connected";
  if (state.phase === "reconnecting") return "Reconnecting…";
  if (state.phase !== "closed") return "Connecting…";
  if (state.reason.kind === "kicked") return "You are here in another tab now";
  return "Not connected";
}

function face(name) {
  const letters = element("span", { className: "face", textContent: [...name][0].toUpperCase() });
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 290);
  letters.style.setProperty("--hue", String(hue));
  letters.ariaHidden = "true";
  return letters;
}

function element(kind, properties) {
  return Object.assign(document.createElement(kind), properties);
}

function wrap(kind, ...children) {
  const parent = document.createElement(kind);
  parent.append(...children);
  return parent;
}

function remember() {
  sessionStorage.setItem("me", JSON.stringify(me));
}

function randomId() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
}

const TYPING_MS = 3_000;
const GROUP_MS = 300_000;
const LOG_MAX = 500;

const invited = new URLSearchParams(location.hash.slice(1)).get("room"); // as in /#room=tea
if (invited) page["room-name"].value = invited;
showDoor();
client.open().catch(() => {});
