"use strict";

// The codecs under test: two packages, one of them in both of its shapes. A page loads
// pomelo-protocol with a `window`, and then its strings and its bytes are other code than in Node.

const fs = require("node:fs");
const vm = require("node:vm");

function asInAPage(name) {
  const page = vm.createContext({ Uint8Array, module: {}, window: {} });
  vm.runInContext(fs.readFileSync(require.resolve(name), "utf8"), page);
  return page.window.Protocol;
}

function pinus() {
  const { Protocol, Package, Message } = require("pinus-protocol");
  return { ...Protocol, Package, Message };
}

exports.codecs = {
  pinus,
  pomelo: () => require("pomelo-protocol"),
  "pomelo-in-a-page": () => asInAPage("pomelo-protocol/lib/protocol.js"),
};
