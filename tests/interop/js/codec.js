"use strict";

// node codec.js CODEC: answers questions of JSON, one a line, about one codec. Bytes are hex.

const readline = require("node:readline");
const { codecs } = require("./codecs");

const { Package, Message, strencode, strdecode } = codecs[process.argv[2]]();

const answers = {
  readPackets: ({ hex }) => [Package.decode(bytes(hex))].flat().map(packet),
  writePacket: ({ type, body }) => text(Package.encode(type, bytes(body))),
  readMessage: ({ hex }) => {
    const { body, ...head } = Message.decode(bytes(hex));
    return { ...head, body: text(body) };
  },
  writeMessage: ({ id, type, route, body, zlib }) =>
    text(Message.encode(id, type, Number.isInteger(route), route, bytes(body), zlib)),
  readString: ({ hex }) => strdecode(bytes(hex)),
  writeString: ({ string }) => text(strencode(string)),
};

function packet({ type, body }) {
  return { type, body: body ? text(body) : "" };
}

function bytes(hex) {
  return Buffer.from(hex, "hex");
}

function text(bytes) {
  return Buffer.from(bytes).toString("hex");
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = { answer: answers[question.ask](question) };
  } catch (error) {
    answer = { refused: error.message };
  }
  console.log(JSON.stringify(answer));
});
