// The chat as a process, and browser tabs that show its page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import puppeteer from "puppeteer-core";

/** Starts the chat at `address`, and gives its URL once it prints it. */
export async function startChat(address = "127.0.0.1:0") {
  const { PITAYA_CHAT: program } = process.env;
  const child = spawn(program, [address], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => child.kill());
  for await (const line of createInterface(child.stdout)) {
    const url = line.match(/http:\/\/[^ ]+/)?.[0];
    if (url === undefined) continue;
    child.stdout.resume(); // whatever else it says must not stop it
    return { url, stop: () => stop(child) };
  }
  throw new Error(`${program} ended without printing a URL`);
}

async function stop(child) {
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

export function startBrowser() {
  const executablePath = process.env.PITAYA_BROWSER ?? "/usr/bin/chromium";
  const args = ["--no-sandbox", "--font-render-hinting=none"];
  return puppeteer.launch({ executablePath, args, pipe: true });
}

/** A tab of a person of their own. What goes wrong on the page is kept in `faults`. */
export async function openTab(browser, url, { width = 1200, height = 760, scheme = "light" } = {}) {
  const context = await browser.createBrowserContext();
  const tab = await context.newPage();
  const isPhone = width < 600;
  tab.faults = [];
  tab.foreign = [];
  tab.on("pageerror", (error) => tab.faults.push(String(error)));
  tab.on("console", (said) => said.type() === "error" && tab.faults.push(said.text()));
  tab.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^data:/.test(request.url())) {
      tab.foreign.push(request.url());
    }
  });
  tab.setDefaultTimeout(10_000);
  await tab.setViewport({
    width, height, deviceScaleFactor: isPhone ? 2 : 1, isMobile: isPhone, hasTouch: isPhone,
  });
  await tab.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: "reduce" },
  ]);
  await tab.goto(url);
  await tab.waitForSelector("#line[data-phase=open]");
  return tab;
}

export async function enter(tab, name, room = "lobby") {
  await tab.$eval("#name", (input, value) => (input.value = value), name);
  await tab.$eval("#room-name", (input, value) => (input.value = value), room);
  await tab.click("#enter .main");
}

export async function join(tab, name, room) {
  await enter(tab, name, room);
  await tab.waitForSelector("#room:not([hidden])");
}

export async function say(tab, text) {
  await tab.waitForSelector("#text:not(:disabled)");
  await tab.type("#text", text);
  await tab.keyboard.press("Enter");
  await sees(tab, text);
}

/** Waits until the log of the page has `text`. */
export async function sees(tab, text) {
  const has = (text) => [...document.querySelectorAll("#log li")].some(
    (item) => (item.querySelector(".said") ?? item).textContent === text,
  );
  await tab.waitForFunction(has, {}, text);
}

/** Waits until exactly `names` are listed as being here. */
export async function seesHere(tab, ...names) {
  const are = (names) => {
    const listed = [...document.querySelectorAll("#names li > span:nth-child(2)")];
    return listed.map((of) => of.textContent).join() === names.join();
  };
  await tab.waitForFunction(are, {}, names);
}

export function textOf(tab, selector) {
  return tab.$eval(selector, (of) => of.textContent);
}

/** Nothing went wrong on the pages, and nothing was fetched from elsewhere. */
export function healthy(...pages) {
  for (const { faults, foreign } of pages) assert.deepEqual([faults, foreign], [[], []]);
}

export async function accessible(tab) {
  const source = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
  await tab.evaluate(source);
  const { violations } = await tab.evaluate(() => axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`);
  assert.deepEqual(found, []);
}

/** Each is on the screen as a whole, and the page does not scroll sideways. */
export async function fits(tab, ...selectors) {
  for (const selector of selectors) {
    const { top, left, right, bottom, width, height } = await tab.$eval(selector, (of) => {
      const { top, left, right, bottom } = of.getBoundingClientRect();
      return { top, left, right, bottom, width: innerWidth, height: innerHeight };
    });
    const inside = top >= 0 && left >= 0 && right <= width && bottom <= height && bottom > top;
    assert.ok(inside, `${selector}: ${[top, left, right, bottom]} in ${width} by ${height}`);
  }
  const sideways = await tab.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll("#scroll, #here")]
      .filter((of) => of.scrollWidth > of.clientWidth).map((of) => of.outerHTML.slice(0, 80)),
  );
  assert.deepEqual(sideways, []);
}
