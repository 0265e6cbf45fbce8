"""One person on slixmpp, told what to do by JSON lines on standard input.

What happens is told as JSON lines on standard output.

Orders: {"do": "connect", "jid", "password", "host", "port", "direct_tls", "as_it_comes"}, {"do": "send", "to", "body"},
{"do": "say", "to", "id", "children"} (children are XML; with an origin-id of the same id), {"do": "subscribe", "to"},
{"do": "agree", "to"}, {"do": "carbons"}, {"do": "history", "with"}, {"do": "archive", "with"}, {"do": "leave"}.
Every message that has a place in its conversation, live, as a carbon or (at "archive") from the archive, is told in
full as {"event": "placed"}, and every read marker, which has none, as {"event": "marked"}.
When the connection breaks and the stream can be resumed (XEP-0198), the person comes back. Whatever goes wrong is told
as {"event": "problem"}. With CLIENT_TRACE in the environment, the stream goes to standard error.
"""
import asyncio
import json
import logging
import os
import ssl
import sys
import xml.etree.ElementTree as ET

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath


def find(xml, name):
    """The first child of that {namespace}name; an empty element when there is none."""
    found = xml.find(name)
    return ET.Element("none") if found is None else found


def placed(xml, bare, **more):
    """Tells of a message with everything that names it: xml is the <message/>."""
    number = find(xml, "{urn:posthouse:position:1}position").get("number")
    names = ("{urn:xmpp:chat-markers:0}displayed", "{urn:xmpp:receipts}received")
    marks = [e for name in names if (e := xml.find(name)) is not None]
    if number is None and marks:
        kind = "read" if marks[0].tag.endswith("displayed") else "delivered"
        tell("marked", kind=kind, id=marks[0].get("id"), **more)
    if number is None:
        return
    stanza_id = next((e.get("id") for e in xml.findall("{urn:xmpp:sid:0}stanza-id") if e.get("by") == bare), None)
    about = {kind: e.get("id") for kind, name in (
        ("edit", "{urn:xmpp:message-correct:0}replace"), ("retract", "{urn:xmpp:message-retract:1}retract"),
        ("read", "{urn:xmpp:chat-markers:0}displayed"), ("delivered", "{urn:xmpp:receipts}received"),
        ("retracted", "{urn:xmpp:message-retract:1}retracted")) if (e := xml.find(name)) is not None}
    kind, target = next(iter(about.items()), ("text", ""))
    body = xml.find("{jabber:client}body")
    tell("placed", **{
        "id": find(xml, "{urn:xmpp:sid:0}origin-id").get("id") or xml.get("id") or "", "number": int(number),
        "from": xml.get("from"), "to": xml.get("to"), "kind": kind, "target": target,
        "text": "" if body is None else body.text, "stanza_id": stanza_id, **more})


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Teller(logging.Handler):
    """Tells what slixmpp logs as an error, so that a failing test shows it."""

    def emit(self, record):
        # This slixmpp forgets what was not acknowledged when it resumes, and is then surprised by an acknowledgement of
        # it.
        if not record.msg.startswith("Inconsistent sequence numbers"):
            tell("problem", doing=record.name, what=self.format(record))


class Person(slixmpp.ClientXMPP):
    def __init__(self, order):
        self.host, self.port, self.direct_tls = order["host"], order["port"], order.get("direct_tls", False)
        super().__init__(order["jid"], order["password"])
        for name in ("xep_0030", "xep_0059", "xep_0198", "xep_0199", "xep_0280", "xep_0297", "xep_0313", "xep_0359"):
            self.register_plugin(name)
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.auto_authorize = None
        # This slixmpp binds channels by tls-unique only, which TLS 1.3 does not have (RFC 9266 §1). It is refused, also
        # when it claims that we do not bind at all, and ends with PLAIN. That is how it comes; told not to bind, it
        # uses SCRAM.
        if not order.get("as_it_comes"):
            mechanisms = self["feature_mechanisms"]
            credentials = mechanisms.sasl_callback
            mechanisms.sasl_callback = lambda wanted, optional: {
                **credentials(wanted, optional), "channel_binding": b""}
            mechanisms.use_mechs = {"SCRAM-SHA-256", "SCRAM-SHA-1"}
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("session_resumed", lambda _: tell("resumed"))
        self.add_event_handler("sm_enabled", lambda _: tell("managed"))
        self.add_event_handler("sm_failed", lambda _: tell("unmanaged"))
        self.add_event_handler("message", self.heard)
        # Marks and the like have no body, and are no event of slixmpp's.
        self.register_handler(Callback(
            "placed", MatchXPath("{jabber:client}message"), lambda m: placed(m.xml, self.boundjid.bare)))
        self.add_event_handler("carbon_received", lambda m: self.copied("received", m["carbon_received"]))
        self.add_event_handler("carbon_sent", lambda m: self.copied("sent", m["carbon_sent"]))
        self.add_event_handler("presence", lambda p: tell("presence", **{"from": str(p["from"]), "type": p["type"]}))
        self.add_event_handler(
            "stream_error", lambda e: tell("problem", doing="stream", what=e["condition"] + ": " + e["text"]))
        self.add_event_handler("failed_auth", lambda f: tell("refused", condition=f["condition"]))
        self.add_event_handler("failed_all_auth", lambda _: tell("problem", doing="log in", what="no mechanism worked"))
        self.add_event_handler("connection_failed", lambda why: tell("problem", doing="connect", what=str(why)))
        self.add_event_handler("disconnected", self.broken)

    def go(self):
        self.connect((self.host, self.port), use_ssl=self.direct_tls, force_starttls=not self.direct_tls)

    async def get_dns_records(self, domain, port=None):
        return [(domain, self.host, self.port)]  # no name service is asked

    async def broken(self, why):
        tell("disconnected", why=str(why))
        if self["xep_0198"].sm_id:
            self.go()

    async def started(self, _):
        self.send_presence()
        await self.get_roster(timeout=15)
        tell("online", jid=str(self.boundjid), mechanism=self["feature_mechanisms"].mech.name,
             tls=self.transport.get_extra_info("ssl_object").version())

    def heard(self, message):
        if message["body"]:
            tell("message", **{"from": str(message["from"]), "type": message["type"], "body": message["body"],
                               "delayed": message.xml.find("{urn:xmpp:delay}delay") is not None})

    def copied(self, way, message):
        placed(message.xml, self.boundjid.bare)
        tell("carbon", way=way, **{"from": str(message["from"]), "to": str(message["to"]), "body": message["body"]})

    async def history(self, other):
        bodies = []
        async for result in self["xep_0313"].iterate(with_jid=slixmpp.JID(other) if other else None, rsm={"max": 7}):
            bodies.append(result["mam_result"]["forwarded"]["stanza"]["body"])
        tell("history", bodies=bodies)

    async def archive(self, other):
        n = 0
        async for result in self["xep_0313"].iterate(with_jid=slixmpp.JID(other), rsm={"max": 20}):
            n += 1
            found = result["mam_result"]
            placed(found["forwarded"]["stanza"].xml, self.boundjid.bare, archived=True, stanza_id=found["id"])
        tell("archive", count=n)


async def obey(person, order):
    """Carries out one order and returns the person."""
    match order["do"]:
        case "connect":
            person = Person(order)
            person.go()
        case "send":
            person.send_message(mto=order["to"], mbody=order["body"], mtype="chat")
        case "say":
            message = person.make_message(mto=order["to"], mtype="chat")
            message["id"] = order["id"]
            for child in order["children"]:
                message.xml.append(ET.fromstring(child))
            message.xml.append(ET.Element("{urn:xmpp:sid:0}origin-id", {"id": order["id"]}))
            message.send()
        case "subscribe":
            person.send_presence_subscription(pto=order["to"])
        case "agree":
            person.send_presence_subscription(pto=order["to"], ptype="subscribed")
        case "carbons":
            await person["xep_0280"].enable(timeout=15)
            tell("carbons")
        case "history":
            await person.history(order.get("with"))
        case "archive":
            await person.archive(order["with"])
        case "leave":
            person["xep_0198"].sm_id = None  # for good
            await person.disconnect()
            tell("left")
        case other:
            tell("problem", doing=other, what="unknown order")
    return person


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: tell("problem", doing="in a task", what=repr(context.get("exception") or context)))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    person = None
    while line := await reader.readline():
        order = json.loads(line)
        try:
            person = await obey(person, order)
        except Exception as problem:  # told, so that the test can say it
            tell("problem", doing=order["do"], what=repr(problem))


if os.environ.get("CLIENT_TRACE"):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.DEBUG)
teller = Teller(logging.ERROR)
logging.getLogger().addHandler(teller)
asyncio.run(main())
