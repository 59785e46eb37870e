// The chat on several servers in a real browser: what two people see of a server that is killed,
// paused and started again, on a desktop and on a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  accessible, fits, healthy, join, openTab, say, sees, seesHere, startBrowser, startChat, textOf,
} from "./server.js";

const { PITAYA_SCREENSHOTS: screenshots } = process.env;
let chat;
let browser;

before(async () => {
  [chat, browser] = await Promise.all([startChat("0"), startBrowser()]);
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

test("the chat goes on at the other server", async () => {
  const ada = await openTab(browser, chat.url);
  const bob = await openTab(browser, chat.url, { width: 390, height: 780, scheme: "dark" });
  await join(ada, "Ada");
  await join(bob, "Bob");
  await seesHere(ada, "Ada", "Bob");
  await say(ada, "Which server has us?");
  await sees(bob, "Which server has us?");
  const home = await homeOf(ada);

  await press(bob, home, "kill");
  await ada.waitForSelector(".note.failed");
  assert.match(await textOf(ada, ".note.failed"), /^PIT-503 after [0-2]\.\d s: /);
  await ada.waitForFunction((home) => document.querySelector(".server.home")?.dataset.name !== home,
    {}, home);
  await seesHere(ada, "Ada", "Bob");
  await say(ada, "And on it goes.");
  await sees(bob, "And on it goes.");

  await press(bob, home, "start");
  await movesTo(home, ada, bob);
  await seesHere(ada, "Ada", "Bob");
  await say(bob, "Back home.");
  await sees(ada, "Back home.");

  await press(ada, home, "pause");
  await ada.waitForSelector(`.server[data-name=${home}][data-member=silent]`);
  const other = home === "room-1" ? "room-2" : "room-1";
  await movesTo(other, ada, bob);
  await say(bob, "And again.");
  await sees(ada, "And again.");
  for (const tab of [ada, bob]) {
    await accessible(tab);
    await fits(tab, "#servers", "#text", "#say button", "#log li:last-child");
    if (screenshots) await tab.screenshot({ path: `${screenshots}/${tab.viewport().width}.png` });
  }
  await press(ada, home, "resume");
  await movesTo(home, ada, bob);
  healthy(ada, bob);
});

function press(tab, server, button) {
  return tab.click(`.server[data-name=${server}] [data-button=${button}]`);
}

function homeOf(tab) {
  return tab.$eval(".server.home", (card) => card.dataset.name);
}

async function movesTo(server, ...tabs) {
  for (const tab of tabs) await tab.waitForSelector(`.server.home[data-name=${server}]`);
}
