"""One person on slixmpp, told what to do by JSON lines on standard input; what happens is told as JSON lines on standard output.

Commands: {"do": "connect", "jid", "password", "host", "port", "direct_tls"}, {"do": "send", "to", "body"},
{"do": "subscribe", "to"}, {"do": "agree", "to"},
{"do": "carbons"}, {"do": "history", "with"}, {"do": "abort"} (cut the socket and come back), {"do": "leave"}.
"""
import asyncio
import json
import logging
import ssl
import sys

import slixmpp

logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Person(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        for name in ("xep_0030", "xep_0059", "xep_0198", "xep_0199", "xep_0280", "xep_0297", "xep_0313", "xep_0359"):
            self.register_plugin(name)
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        # This slixmpp binds channels by tls-unique only, which TLS 1.3 does not have (RFC 9266 §1). Asked to bind, it would
        # be refused and fall back to PLAIN; so it does not bind.
        mechanisms = self["feature_mechanisms"]
        credentials = mechanisms._default_credentials
        mechanisms._default_credentials = lambda wanted, optional: {**credentials(wanted, optional), "channel_binding": None}
        mechanisms.sasl_callback = mechanisms._default_credentials
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("session_resumed", lambda _: tell("resumed"))
        self.add_event_handler("message", self.heard)
        self.add_event_handler("carbon_received", lambda m: self.copied("received", m["carbon_received"]))
        self.add_event_handler("carbon_sent", lambda m: self.copied("sent", m["carbon_sent"]))
        self.auto_authorize = None
        self.add_event_handler("presence", lambda p: tell("presence", **{"from": str(p["from"]), "type": p["type"]}))
        self.add_event_handler("stream_error", lambda e: tell("stream_error", condition=e["condition"]))
        self.add_event_handler("failed_auth", lambda _: tell("failed_auth"))
        self.add_event_handler("sm_enabled", lambda _: tell("managed"))

    async def started(self, _):
        self.send_presence()
        await self.get_roster()
        tell("online", jid=str(self.boundjid), mechanism=self["feature_mechanisms"].mech.name,
             tls=self.transport.get_extra_info("ssl_object") is not None)

    def heard(self, message):
        if message["body"]:
            tell("message", **{"from": str(message["from"]), "type": message["type"], "body": message["body"],
                               "delayed": message.xml.find("{urn:xmpp:delay}delay") is not None})

    def copied(self, way, message):
        tell("carbon", way=way, **{"from": str(message["from"]), "to": str(message["to"]), "body": message["body"]})

    async def history(self, other):
        bodies = []
        async for result in self["xep_0313"].iterate(with_jid=slixmpp.JID(other) if other else None, rsm={"max": 7}):
            bodies.append(result["mam_result"]["forwarded"]["stanza"]["body"])
        tell("history", bodies=bodies)


async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_event_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    person = None
    while line := await reader.readline():
        command = json.loads(line)
        do = command["do"]
        try:
            if do == "connect":
                person = Person(command["jid"], command["password"])
                person.connect((command["host"], command["port"]), use_ssl=command.get("direct_tls", False),
                               force_starttls=not command.get("direct_tls", False), disable_starttls=False)
            elif do == "send":
                person.send_message(mto=command["to"], mbody=command["body"], mtype="chat")
            elif do == "subscribe":
                person.send_presence_subscription(pto=command["to"])
            elif do == "agree":
                person.send_presence_subscription(pto=command["to"], ptype="subscribed")
            elif do == "carbons":
                await person["xep_0280"].enable()
                tell("carbons")
            elif do == "history":
                await person.history(command.get("with"))
            elif do == "abort":
                person.abort()
                await asyncio.sleep(0)
                person.connect((command["host"], command["port"]), use_ssl=command.get("direct_tls", False),
                               force_starttls=not command.get("direct_tls", False), disable_starttls=False)
            elif do == "leave":
                await person.disconnect()
                break
        except Exception as problem:  # told, so that the test can say it
            tell("problem", doing=do, what=repr(problem))
    tell("left")


asyncio.run(main())
