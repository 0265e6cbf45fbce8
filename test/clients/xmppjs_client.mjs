// One person on xmpp.js over WebSocket, told what to do by JSON lines on standard input; what happens is told as JSON
// lines on standard output. The commands and events are those of slixmpp_client.py.
import { client, xml } from "@xmpp/client";
import { createInterface } from "node:readline";

const tell = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
let person;

async function connect({ jid, password, service }) {
  const [username, domain] = jid.split("/")[0].split("@");
  let mechanism;
  person = client({
    service,
    domain,
    resource: jid.split("/")[1],
    credentials: async (authenticate, mechanisms) => {
      mechanism = mechanisms[0];
      await authenticate({ username, password }, mechanism);
    },
  });
  person.reconnect.delay = 50;
  person.on("error", (problem) => tell("problem", { what: String(problem) }));
  person.on("online", async (address) => {
    await person.send(xml("presence"));
    tell("online", { jid: address.toString(), mechanism });
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
    const inner = stanza.getChild(way, "urn:xmpp:carbons:2")?.getChild("forwarded", "urn:xmpp:forward:0")?.getChild("message");
    if (inner) tell("carbon", { way, from: inner.attrs.from, to: inner.attrs.to, body: inner.getChildText("body") });
  }
  const result = stanza.getChild("result", "urn:xmpp:mam:2");
  if (result) page.push(result.getChild("forwarded", "urn:xmpp:forward:0").getChild("message").getChildText("body"));
  const body = stanza.getChildText("body");
  if (body) tell("message", { from, type: stanza.attrs.type, body, delayed: Boolean(stanza.getChild("delay", "urn:xmpp:delay")) });
}

let page = [];

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
          xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, "7"), ...(after ? [xml("after", {}, after)] : [])))));
    bodies.push(...page);
    const end = fin.getChild("fin", "urn:xmpp:mam:2");
    after = end.getChild("set", "http://jabber.org/protocol/rsm")?.getChildText("last");
    if (end.attrs.complete === "true" || !after) break;
  }
  tell("history", { bodies });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    switch (command.do) {
      case "connect": await connect(command); break;
      case "send": await person.send(xml("message", { to: command.to, type: "chat", id: crypto.randomUUID() }, xml("body", {}, command.body))); break;
      case "subscribe": await person.send(xml("presence", { to: command.to, type: "subscribe" })); break;
      case "agree": await person.send(xml("presence", { to: command.to, type: "subscribed" })); break;
      case "carbons":
        await person.iqCaller.request(xml("iq", { type: "set" }, xml("enable", { xmlns: "urn:xmpp:carbons:2" })));
        tell("carbons");
        break;
      case "history": await history(command.with); break;
      case "abort": person.socket.socket.close(); break;
      case "leave": await person.stop(); tell("left"); process.exit(0);
    }
  } catch (problem) {
    tell("problem", { doing: command.do, what: String(problem) });
  }
}
