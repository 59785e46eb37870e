// The page of the chat on several servers: the room is asked each second who is there, so one sees
// which server has it, how fast it answers, and how calls fail when it does not.

import { Client } from "/pitaya.js";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((of) => [of.id, of]));
const client = new Client("/");

/** Of this tab: `{ name, title }`, once somebody has come in. */
const me = JSON.parse(sessionStorage.getItem("me") ?? "{}");
const shown = new Set();
let last;
let servers = [];
let home; // the server that has the room
let failing; // with which code
let looks = 0;

// From the gate and the rooms.

client.watch((state) => {
  page.line.dataset.phase = state.phase;
  page["line-text"].textContent = lineText(state);
  page.retry.hidden = state.phase !== "reconnecting" && state.phase !== "closed";
  page.text.disabled = state.phase !== "open";
  page.say.querySelector("button").disabled = state.phase !== "open";
  showState();
  if (state.phase !== "open") return;
  void client.request("servers.watch").then(showServers, () => {});
  if (me.title) void enter();
});

client.on("onServers", showServers);
client.on("onMessage", showMessage);

// From people.

page.enter.addEventListener("submit", (event) => {
  event.preventDefault();
  me.name = page.name.value.trim();
  me.title = page["room-name"].value.trim();
  if (me.name && me.title) void enter();
});

page.say.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!text) return;
  page.text.value = "";
  const asked = performance.now();
  try {
    await client.request("room.chat.say", { text, title: me.title });
    showError(page.say, "");
  } catch (error) {
    page.text.value ||= text;
    showError(page.say, `Not sent: ${failure(error, asked)}`);
  }
});

page.people.addEventListener("click", () => showPeople(page.people.ariaExpanded !== "true"));
page.talk.addEventListener("pointerdown", () => showPeople(false));
addEventListener("keydown", ({ key }) => void (key === "Escape" && showPeople(false)));
page.retry.addEventListener("click", () => (client.retry(), client.open().catch(() => {})));
addEventListener("online", () => client.retry());

async function press(room, button) {
  try {
    await client.request("servers.press", { button, room });
  } catch (error) {
    showNote(`${button} ${room}: ${error.code}: ${error.message}`, "failed");
  }
}

// The room.

async function enter() {
  try {
    const looked = await client.request("room.chat.join", { name: me.name, title: me.title });
    sessionStorage.setItem("me", JSON.stringify(me));
    if (page.room.hidden) showRoom();
    showLooked(looked);
    void look();
  } catch (error) {
    showError(page.enter, `${error.code}: ${error.message}`);
    // Else the servers may only be starting.
    if (error.code !== "PIT-400" && client.state.phase === "open") setTimeout(enter, LOOK_MS);
  }
}

/** Asks until the connection is lost, or somebody asks anew. */
async function look() {
  const mine = (looks += 1);
  while (mine === looks && client.state.phase === "open") {
    const asked = performance.now();
    try {
      showLooked(await client.request("room.chat.look", { title: me.title }), asked);
    } catch (error) {
      if (client.state.phase === "open") showFailing(error.code, failure(error, asked));
    }
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
}

function showLooked({ here, recent, server }, asked) {
  if (failing) showNote(`${server} answers`);
  else if (home && home !== server) showNote(`the room is at ${server} now`);
  failing = undefined;
  home = server;
  for (const message of recent) showMessage(message);
  showHere(here);
  showServers(servers);
  if (asked) showState(` in ${Math.ceil(performance.now() - asked)} ms`);
}

function showFailing(code, text) {
  if (failing !== code) showNote(text, "failed");
  failing = code;
  showState();
}

function failure({ code, message }, asked) {
  return `${code} after ${((performance.now() - asked) / 1000).toFixed(1)} s: ${message}`;
}

// On the screen.

function showRoom() {
  page.door.hidden = true;
  page.room.hidden = false;
  page.title.textContent = me.title;
  document.title = `${me.title} · Pitaya cluster chat`;
  page.text.focus();
}

function showState(detail = "") {
  const { phase } = client.state;
  page.state.dataset.phase = phase === "open" && failing ? "closed" : phase;
  const answered = failing ? "No answer" : home ? `${home} answered${detail}` : "Connected";
  page.state.textContent = phase === "open" ? answered : lineText(client.state);
}

function showServers(now) {
  const key = JSON.stringify([now, home]);
  if (page.servers.dataset.key === key) return; // a button must stay while it is pressed
  page.servers.dataset.key = key;
  servers = now;
  page.servers.replaceChildren(...servers.map(({ name, member, process }) => {
    const card = element("div", { className: "server" });
    card.dataset.name = name;
    card.dataset.member = process === "dead" ? "left" : member;
    card.classList.toggle("home", name === home);
    const about = wrap("p", element("b", { textContent: name }));
    const text = `${PROCESS[process]}, ${MEMBER[member]}${name === home ? ", has this room" : ""}`;
    about.append(element("small", { textContent: text }));
    card.append(about, ...BUTTONS[process].map((button) => {
      const label = button[0].toUpperCase() + button.slice(1);
      const made = element("button", { type: "button", textContent: label });
      made.ariaLabel = `${label} ${name}`;
      made.dataset.button = button;
      made.addEventListener("click", () => void press(name, button));
      return made;
    }));
    return card;
  }));
}

function showMessage({ at, from, server, text }) {
  const key = `${at} ${from} ${text}`;
  if (shown.has(key)) return; // it was there before
  shown.add(key);
  const isFirst = last?.from !== from || last.server !== server;
  last = { from, server };
  const item = element("li", { className: "message" });
  item.classList.toggle("mine", from === me.name);
  item.classList.toggle("first", isFirst);
  item.append(face(from));
  if (isFirst) {
    item.append(wrap("p", element("b", { textContent: from }), `by ${server}`));
    item.lastChild.className = "by";
  }
  item.append(element("p", { className: "said", textContent: text }));
  showItem(item);
}

function showNote(textContent, kind = "") {
  last = undefined;
  showItem(element("li", { className: `note ${kind}`, textContent }));
}

function showItem(item) {
  const { scrollHeight, scrollTop, clientHeight } = page.scroll;
  const follows = scrollHeight - scrollTop - clientHeight < 80;
  page.log.append(item);
  while (page.log.children.length > LOG_MAX) page.log.firstChild.remove();
  if (follows || item.classList.contains("mine")) page.scroll.scrollTop = page.scroll.scrollHeight;
}

function showHere(names) {
  page.count.textContent = `${names.length} here`;
  page.faces.replaceChildren(...names.slice(0, 3).map(face));
  page.names.replaceChildren(...names.map((name) => {
    const row = wrap("li", face(name), element("span", { textContent: name }));
    if (name === me.name) row.append(element("small", { textContent: "you" }));
    return row;
  }));
}

function showPeople(isOpen) {
  page.people.ariaExpanded = String(isOpen);
}

function showError(form, text) {
  form.querySelector(".error").textContent = text;
}

function lineText(state) {
  if (state.phase === "open") return "Connected";
  if (state.phase === "reconnecting") return "Reconnecting…";
  return state.phase === "closed" ? "Not connected" : "Connecting…";
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

const LOOK_MS = 1_000;
const LOG_MAX = 500;
const BUTTONS = { dead: ["start"], paused: ["kill", "resume"], runs: ["kill", "pause"] };
const PROCESS = { dead: "dead", paused: "paused", runs: "runs" };
const MEMBER = { joined: "member", left: "left", silent: "silent", starting: "starting" };

client.open().catch(() => {});
