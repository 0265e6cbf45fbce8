// One person on xmpp.js, told what to do by JSON lines on standard input; what happens is told as JSON lines on
// standard output. The orders and events are those of slixmpp_client.py, but "connect" takes {"jid", "password",
// "service"}, where the service is an address with ws:, xmpp: (STARTTLS) or xmpps: (direct TLS). The jid's resource is
// the tag of the one that the server makes (XEP-0386), unless "classic" is true: then the login is that of RFC 6120.
// "login" tells of each one that is tried. "return" connects again after "leave", with what was kept.
import { client, xml } from "@xmpp/client";
import { createInterface } from "node:readline";

const tell = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const patience = 15_000; // milliseconds; the library's own are short for a busy machine
let person;
let page = []; // bodies of the history's page that is coming

async function connect({ jid, password, service, classic }) {
  const [username, domain] = jid.split("/")[0].split("@");
  let mechanism;
  person = client({
    service,
    domain,
    timeout: patience,
    resource: jid.split("/")[1],
    credentials: async (authenticate, mechanisms, fast) => {
      const token = await fast?.fetch();
      const about = [xml("software", {}, "xmpp.js"), xml("device", {}, "test")];
      const device = xml("user-agent", { id: "8d1e2b3c-" + username }, ...about);
      await authenticate({ username, password, token }, mechanisms[0], device);
    },
  });
  if (classic) {
    person.prependListener("element", (element) => {
      if (element.name === "stream:features")
        element.children = element.children.filter((child) => child.name !== "authentication");
    });
  }
  person.on("send", (element) => {
    if (!element.is("auth") && !element.is("authenticate")) return;
    mechanism = element.attrs.mechanism;
    const inline = (element.children ?? []).filter((child) => child.name).map((child) => child.name);
    tell("login", { way: element.name, mechanism, inline });
  });
  person.reconnect.delay = 50;
  if (process.env.CLIENT_TRACE) {
    const trace = (way) => (element) => console.error(new Date().toISOString(), jid, way, String(element));
    person.on("element", trace("RECV"));
    person.on("send", trace("SENT"));
  }
  // A broken connection is no problem; a stream error is.
  person.on("error", (problem) =>
    tell(problem.condition ? "problem" : "trouble", { doing: "stream", what: String(problem) }));
  person.on("disconnect", ({ clean }) => tell("disconnected", { why: clean ? "clean" : "broken" }));
  person.on("online", async (address) => {
    await person.send(xml("presence"));
    tell("online", { jid: address.toString(), mechanism, secure: person.isSecure() });
    setImmediate(() => person.streamManagement.enabled && tell("managed")); // within the login
  });
  person.on("nonza", (element) => {
    if (element.is("enabled", "urn:xmpp:sm:3")) setImmediate(() => tell("managed"));
  });
  person.streamManagement.on("resumed", () => tell("resumed"));
  person.on("stanza", heard);
  await person.start();
}

function heard(stanza) {
  const from = stanza.attrs.from;
  if (stanza.is("presence")) tell("presence", { from, type: stanza.attrs.type ?? "available" });
  if (!stanza.is("message")) return;
  for (const way of ["sent", "received"]) {
    const forwarded = stanza.getChild(way, "urn:xmpp:carbons:2")?.getChild("forwarded", "urn:xmpp:forward:0");
    const inner = forwarded?.getChild("message");
    if (inner) tell("carbon", { way, from: inner.attrs.from, to: inner.attrs.to, body: inner.getChildText("body") });
  }
  const result = stanza.getChild("result", "urn:xmpp:mam:2");
  if (result) page.push(result.getChild("forwarded", "urn:xmpp:forward:0").getChild("message").getChildText("body"));
  const body = stanza.getChildText("body");
  const delayed = Boolean(stanza.getChild("delay", "urn:xmpp:delay"));
  if (body) tell("message", { from, type: stanza.attrs.type, body, delayed });
}

// history pages through the archive (XEP-0313) seven at a time.
async function history(other) {
  const bodies = [];
  for (let after; ; ) {
    page = [];
    const field = (name, value, type) => xml("field", { var: name, ...(type && { type }) }, xml("value", {}, value));
    const fin = await person.iqCaller.request(
      xml("iq", { type: "set" },
        xml("query", { xmlns: "urn:xmpp:mam:2" },
          xml("x", { xmlns: "jabber:x:data", type: "submit" },
            field("FORM_TYPE", "urn:xmpp:mam:2", "hidden"), ...(other ? [field("with", other)] : [])),
          xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, "7"),
            ...(after ? [xml("after", {}, after)] : [])))),
      patience);
    bodies.push(...page);
    const end = fin.getChild("fin", "urn:xmpp:mam:2");
    after = end.getChild("set", "http://jabber.org/protocol/rsm")?.getChildText("last");
    if (end.attrs.complete === "true" || !after) break;
  }
  tell("history", { bodies });
}

const orders = {
  connect,
  send: ({ to, body }) =>
    person.send(xml("message", { to, type: "chat", id: crypto.randomUUID() }, xml("body", {}, body))),
  subscribe: ({ to }) => person.send(xml("presence", { to, type: "subscribe" })),
  agree: ({ to }) => person.send(xml("presence", { to, type: "subscribed" })),
  carbons: async () => {
    await person.iqCaller.request(xml("iq", { type: "set" }, xml("enable", { xmlns: "urn:xmpp:carbons:2" })), patience);
    tell("carbons");
  },
  history: (order) => history(order.with),
  return: () => person.start(),
  leave: async () => {
    await person.stop();
    tell("left");
  },
};

process.on("unhandledRejection", (problem) => tell("problem", { doing: "in the background", what: String(problem) }));
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    await orders[order.do](order);
  } catch (problem) {
    tell("problem", { doing: order.do, what: String(problem) });
  }
}
process.exit(0);
