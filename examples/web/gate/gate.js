// The page of the gate: calls a room, and shows who answered, how fast, and what went wrong.

import { Client } from "/pitaya.js";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((of) => [of.id, of]));
const client = new Client("/");

client.watch((state) => {
  page.line.dataset.phase = page.state.dataset.phase = state.phase;
  page["line-text"].textContent = page.state.textContent = stateText(state);
  page.retry.hidden = state.phase !== "reconnecting" && state.phase !== "closed";
  page.greet.disabled = state.phase !== "open";
});

client.on("onGreet", (text) => show("push", text));

page.enter.addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = performance.now();
  const ms = () => `${(performance.now() - asked).toFixed(1)} ms`;
  try {
    const [room, greetings] = await client.request("room.hall.greet", page.name.value.trim());
    const times = greetings === 1 ? "once" : `${greetings} times`;
    show("reply", `${room} answers; you were greeted ${times}`, ms());
  } catch (error) {
    show("error", `${error.code}: ${error.message}`, ms());
  }
});

page.retry.addEventListener("click", () => (client.retry(), client.open().catch(() => {})));
addEventListener("online", () => client.retry());

/** The newest comes first. */
function show(kind, text, ms = "") {
  const row = element("li", { className: kind === "error" ? "failed" : "" });
  const parts = { b: kind, span: text, small: ms };
  row.append(...Object.entries(parts).map(([tag, textContent]) => element(tag, { textContent })));
  page.answers.prepend(row);
  while (page.answers.children.length > ANSWERS_MAX) page.answers.lastChild.remove();
}

function stateText(state) {
  if (state.phase === "open") return "Connected to the gate";
  if (state.phase === "reconnecting") return "Reconnecting…";
  return state.phase === "closed" ? "Not connected" : "Connecting…";
}

function element(kind, properties) {
  return Object.assign(document.createElement(kind), properties);
}

const ANSWERS_MAX = 50;

client.open().catch(() => {});
