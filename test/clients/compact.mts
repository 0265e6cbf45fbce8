// A chat client for the compact stream. It was written from docs/protocol/compact.md, login.md, confirm.md and sync.md
// and the published dictionary.json alone, to show that they are enough, and uses nothing of the server's code.
import { createHash, createHmac, pbkdf2Sync, randomBytes, randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";

type Names = (string | null)[];
type Field = {
  number: number; as: string; attribute?: string; namespace?: string; names?: Names; child?: string; form?: string;
};
type Form = {
  name: string; as?: string; namespace: string; element: string; within?: string; fields?: Field[];
  implied?: { attribute: string; is: "stanza-id" | "account" | "sha-1" };
};
export type Dictionary = {
  schema: number; namespaces: Names; words: Names; types: Names; stream_conditions: Names; payloads: (Form | null)[];
  signals: ({ namespace: string; element: string; text?: string } | null)[]; forms: Record<string, Form>;
};

export class Element {
  text = "";
  children: Element[] = [];
  constructor(readonly space: string, readonly name: string, readonly attrs: Record<string, string> = {},
    ...inside: (Element | string)[]) {
    for (const x of inside) typeof x === "string" ? (this.text += x) : this.children.push(x);
  }
  child = (name: string, space = this.space) => this.children.find((c) => c.name === name && c.space === space);
}
const el = (...all: ConstructorParameters<typeof Element>) => new Element(...all);

const NS = {
  client: "jabber:client", sasl: "urn:xmpp:sasl:2", bind: "urn:xmpp:bind:0", sm: "urn:xmpp:sm:3", sid: "urn:xmpp:sid:0",
  fast: "urn:xmpp:fast:0", confirm: "urn:posthouse:confirm:1", marker: "urn:posthouse:marker:1", mam: "urn:xmpp:mam:2",
  rsm: "http://jabber.org/protocol/rsm", form: "jabber:x:data", sync: "urn:posthouse:sync:1",
  carbons: "urn:xmpp:carbons:2", forward: "urn:xmpp:forward:0", position: "urn:posthouse:position:1",
};

// ---- Protocol Buffers ----

type Value = number | Buffer;

function fields(data: Value): [number, Value][] {
  if (typeof data === "number") throw new Error("a number in the place of a message");
  const out: [number, Value][] = [];
  let at = 0;
  const varint = (n = 0, unit = 1): number => {
    const byte = data.readUInt8(at++);
    n += (byte & 127) * unit;
    return byte < 128 ? n : varint(n, unit * 128);
  };
  while (at < data.length) {
    const tag = varint();
    const wire = tag % 8;
    const size = wire === 2 ? varint() : { 0: 0, 1: 8, 5: 4 }[wire] ?? Infinity;
    if (at + size > data.length) throw new Error("a field is longer than what holds it");
    out.push([Math.floor(tag / 8), wire === 0 ? varint() : data.subarray(at, (at += size))]);
  }
  return out;
}

const varint = (n: number): number[] => (n < 128 ? [n] : [(n % 128) + 128, ...varint(Math.floor(n / 128))]);
const sized = (data: Buffer) => Buffer.concat([Buffer.from(varint(data.length)), data]);
const field = (number: number, value: number | string | Buffer) =>
  typeof value === "number" ? Buffer.from([...varint(number * 8), ...varint(value)])
    : Buffer.concat([Buffer.from(varint(number * 8 + 2)), sized(Buffer.from(value as string))]);

// ---- Frames to elements, and back ----

const bare = (address: string) => address.split("/")[0] ?? "";
// What the dictionary does not have gets a name that nobody asks for.
const entry = (list: Names, n: Value) => list[Number(n)] ?? "unknown-" + n;
const stamp = (millis: number) => new Date(millis).toISOString();
const attributeForms = ["text", "uuid", "key", "word", "uri", "data", "key", "seconds", "millis"]; // from field 5 on

export class Codec {
  constructor(readonly dictionary: Dictionary) {}

  private value(as: string, v: Value, names: Names = [], account = ""): string {
    const coded = (as: BufferEncoding) => (typeof v === "number" ? "" : v.toString(as));
    switch (as) {
      case "uuid": return coded("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
      case "key": return coded("base64url");
      case "data": return coded("base64");
      case "number": return String(v);
      case "millis": return stamp(Number(v));
      case "seconds": return stamp(Number(v) * 1000).replace(".000Z", "Z");
      case "name": return v ? entry(names, v) : "";
      case "word": return entry(this.dictionary.words, v);
      case "uri": return entry(this.dictionary.namespaces, v);
      case "own": return account + (coded("utf8") && "/" + coded("utf8"));
    }
    return coded("utf8");
  }

  // named reads what elements and attributes begin with; the rest is the other fields.
  private named(data: Value, space: string): { space: string; name: string; rest: [number, Value][] } {
    let name = "";
    const rest = fields(data).filter(([number, v]) => {
      if (number < 3 && v) space = this.value(number === 1 ? "uri" : "text", v);
      else if (number < 5 && v) name = this.value(number === 3 ? "word" : "text", v);
      return number > 4;
    });
    return { space, name, rest };
  }

  private element(data: Value, around: string): Element {
    const { space, name, rest } = this.named(data, around);
    const e = el(space, name);
    for (const [number, v] of rest) {
      if (number === 5) {
        const a = this.named(v, "");
        const [form, value] = a.rest.find(([number]) => number < 14) ?? [5, Buffer.alloc(0)];
        e.attrs[(a.space && `{${a.space}}`) + a.name] = this.value(attributeForms[form - 5]!, value);
      } else if (number === 7) e.children.push(this.element(v, space));
      else if (number === 8) {
        for (const [kind, node] of fields(v)) {
          kind === 1 ? (e.text += node) : e.children.push(this.element(node, space));
        }
      } else if ([6, 9, 10].includes(number)) e.text += this.value({ 9: "word", 10: "data" }[number] ?? "text", v);
    }
    return e;
  }

  // payload reads a Payload; what is not known is nothing.
  private payload(data: Value, space: string, id: string, account: string): Element[] {
    for (const [number, v] of fields(data)) {
      const form = this.dictionary.payloads[number];
      const signal = form?.name === "signal" && this.dictionary.signals[Number(v)];
      if (signal) return [el(signal.namespace, signal.element, {}, signal.text ?? "")];
      if (!form || form.name === "signal") continue;
      if (form.name === "element") return [this.element(v, space)];
      if (form.as === "number") return [el(form.namespace, form.element, { number: String(v) })];
      return [this.typed(form, v, id, account)];
    }
    return [];
  }

  // typed reads a form; id is that of the stanza around.
  private typed(form: Form, data: Value, id: string, account: string): Element {
    const e = el(form.namespace, form.element);
    for (const f of form.fields ?? []) { // attributes come before children there
      for (const [number, v] of fields(data)) {
        if (number !== f.number) continue;
        const inner = form.namespace === NS.client ? (e.attrs["id"] ?? "") : "";
        if (f.as === "content") e.text = String(v);
        else if (f.as === "child") e.children.push(el(form.namespace, f.child!, {}, String(v)));
        else if (f.as === "payload") e.children.push(...this.payload(v, form.namespace, inner, account));
        else if (f.as === "form") e.children.push(this.typed(this.dictionary.forms[f.form!]!, v, inner, account));
        else {
          const value = this.value(f.as, v, f.names, account);
          if (value) e.attrs[(f.namespace ? `{${f.namespace}}` : "") + f.attribute] = value;
        }
      }
    }
    const { attribute = "", is = "sha-1" } = form.implied ?? {};
    const implied = { "stanza-id": id, account, "sha-1": "sha-1" }[is];
    if (attribute && implied) e.attrs[attribute] ??= implied;
    if (form.within) e.children = [el(NS.forward, form.within, {}, ...e.children)];
    return e;
  }

  // frame returns the element that a frame stands for; of a kind that is not known, nothing.
  frame(data: Buffer): Element | undefined {
    for (const [number, v] of fields(data)) {
      const parts = new Map(number > 11 ? [] : fields(v));
      switch (number) {
        case 1: case 2: case 3: {
          const form = { ...this.dictionary.forms["Stanza"]!, element: ["", "message", "presence", "iq"][number]! };
          return this.typed(form, v, "", bare(String(parts.get(parts.has(11) ? 2 : 1) ?? "")));
        }
        case 4: return el(NS.sm, "a", { h: String(parts.get(1) ?? 0) });
        case 5: return el(NS.sm, "r");
        case 8: return this.element(v, "");
        case 6: case 7: case 9: case 10: return el("", { 6: "ping", 7: "pong", 9: "open", 10: "close" }[number]);
        case 11: return el("", "error", { condition: entry(this.dictionary.stream_conditions, parts.get(1) || 21) });
      }
    }
    return undefined; // of a kind that is not known
  }

  private encode(e: Element, around: string): Buffer {
    const short = (list: Names, s: string, number: number) =>
      list.includes(s) ? field(number, list.indexOf(s)) : field(number + 1, s);
    const { namespaces, words } = this.dictionary;
    return Buffer.concat([
      ...(e.space === around ? [] : [short(namespaces, e.space, 1)]),
      short(words, e.name, 3),
      ...Object.entries(e.attrs).map(([name, s]) => field(5, Buffer.concat([short(words, name, 3), field(5, s)]))),
      ...(e.text ? [field(6, e.text)] : []),
      ...e.children.map((c) => field(7, this.encode(c, e.space))),
    ]);
  }

  stanza(kind: "message" | "presence" | "iq", attrs: Record<string, string>, ...payload: Element[]): Buffer {
    const out = payload.map((e) => field(10, field(1, this.encode(e, NS.client))));
    for (const [name, number] of [["to", 1], ["id", 3], ["body", 9]] as const) {
      if (attrs[name]) out.push(field(number, attrs[name]));
    }
    if (attrs["type"]) out.push(field(6, this.dictionary.types.indexOf(attrs["type"])));
    return sized(field({ message: 1, presence: 2, iq: 3 }[kind], Buffer.concat(out)));
  }

  top = (e: Element) => sized(field(8, this.encode(e, "")));
}

// ---- The client ----

export type Options = {
  host: string; port: number; domain: string; username: string; password: string;
  device: string; dictionary: Dictionary;
};
const none = "HT-SHA-256-NONE";
const hmac = (key: string | Buffer, data: string) => createHmac("sha256", key).update(data).digest();
const base64 = (data: string | Buffer) => Buffer.from(data as string).toString("base64");
const message = (e: Element, archived = e.child("stanza-id", NS.sid)?.attrs["id"]) => ({
  id: e.attrs["id"], from: e.attrs["from"], body: e.child("body")?.text,
  number: Number(e.child("position", NS.position)?.attrs["number"]), archived,
});

// scram returns what the client answers to a challenge, and what the server answers to that.
function scram(password: string, first: string, challenge: string): [string, string] {
  const [r = "", s = "", i] = challenge.split(",").map((part) => part.slice(2));
  if (!first.endsWith(r.slice(0, first.split("r=")[1]!.length))) throw new Error("the nonce is not ours");
  const salted = pbkdf2Sync(password, Buffer.from(s, "base64"), Number(i), 32, "sha256");
  const [clientKey, all] = [hmac(salted, "Client Key"), `${first},${challenge},c=biws,r=${r}`];
  const signature = hmac(createHash("sha256").update(clientKey).digest(), all);
  const proof = base64(Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!)));
  return [`c=biws,r=${r},p=${proof}`, "v=" + base64(hmac(hmac(salted, "Server Key"), all))];
}

export class Client {
  token = "";
  address = "";
  private codec: Codec;
  private socket?: Socket;
  private session = { id: "", heard: 0, acknowledged: 0, pending: [] as Buffer[] };
  private asked = new Map<string, (answer: Element) => void>();
  private results: ReturnType<typeof message>[] = [];

  constructor(readonly options: Options, readonly tell: (event: string, fields: object) => void) {
    this.codec = new Codec(options.dictionary);
  }

  private write = (...frames: Buffer[]) => this.socket?.write(Buffer.concat(frames));

  private async *elements(socket: Socket): AsyncGenerator<Element, never> {
    let unread = Buffer.alloc(0);
    for await (const data of socket) {
      unread = Buffer.concat([unread, data]);
      for (;;) {
        const at = unread.findIndex((byte) => byte < 128) + 1; // where the length ends
        const size = unread.subarray(0, at).reduceRight((n, byte) => n * 128 + (byte & 127), 0);
        if (at === 0 || unread.length < at + size) break;
        const e = this.codec.frame(unread.subarray(at, at + size));
        unread = unread.subarray(at + size);
        if (e) yield e;
      }
    }
    throw new Error("the connection is lost");
  }

  private authenticate(mechanism: string, first: string | Buffer, how: Element): Buffer {
    const { id, heard } = this.session;
    const enable = [el(NS.sm, "enable", { resume: "true" }), el(NS.carbons, "enable"), el(NS.confirm, "enable")];
    return this.codec.top(el(NS.sasl, "authenticate", { mechanism },
      el(NS.sasl, "initial-response", {}, base64(first)), el(NS.sasl, "user-agent", { id: this.options.device }), how,
      ...(id ? [el(NS.sm, "resume", { previd: id, h: String(heard) })] : []),
      el(NS.bind, "bind", {}, el(NS.bind, "tag", {}, "ts"), ...enable)));
  }

  // login comes back with the token and the stream of before when there are any, and with the password otherwise.
  async login(): Promise<{ mechanism: string; resumed: boolean }> {
    const { host, port, username, domain, password, dictionary } = this.options;
    const elements = this.elements((this.socket = connect({ host, port, noDelay: true })));
    const open = [field(1, `${username}@${domain}`), field(2, domain), field(4, "1.0"), field(6, dictionary.schema)];
    const proof = Buffer.concat([Buffer.from(username + "\0"), hmac(this.token, "Initiator")]);
    this.write(sized(field(9, Buffer.concat(open))),
      ...(this.token ? [this.authenticate(none, proof, el(NS.fast, "fast"))] : []));
    const first = `n=${username},r=${randomBytes(18).toString("base64")}`;
    let expected = hmac(this.token, "Responder").toString("base64");
    for (;;) {
      const e = (await elements.next()).value;
      if (e.name === "error") throw new Error("stream error " + e.attrs["condition"]);
      if (e.name === "failure" && !this.token) throw new Error("refused: " + e.children[0]?.name);
      if (e.name === "failure") this.token = ""; // the first features have come before it
      if (e.name === "failure" || (e.name === "features" && !this.token)) {
        const request = el(NS.fast, "request-token", { mechanism: none });
        this.write(this.authenticate("SCRAM-SHA-256", "n,," + first, request));
      }
      if (e.name === "challenge") {
        const [answer, proof] = scram(password, first, Buffer.from(e.text, "base64").toString());
        expected = base64(proof);
        this.write(this.codec.top(el(NS.sasl, "response", {}, base64(answer))));
      }
      if (e.name !== "success") continue;
      if (e.child("additional-data")?.text !== expected) throw new Error("the server has proved nothing");
      const [mechanism, resumed] = [this.token ? none : "SCRAM-SHA-256", e.child("resumed", NS.sm)];
      this.token = e.child("token", NS.fast)?.attrs["token"] ?? this.token;
      this.address = e.child("authorization-identifier")?.text ?? "";
      const enabled = e.child("bound", NS.bind)?.child("enabled", NS.sm);
      if (resumed) this.acknowledged(resumed);
      else this.session = { ...this.session, id: enabled?.attrs["id"] ?? "", heard: 0, acknowledged: 0 };
      this.write(...this.session.pending); // once more: the origin-ids are the same, so nothing has two effects
      void this.listen(elements);
      return { mechanism, resumed: resumed !== undefined };
    }
  }

  private acknowledged(e: Element): void {
    this.session.pending.splice(0, Number(e.attrs["h"]) - this.session.acknowledged);
    this.session.acknowledged = Number(e.attrs["h"]);
  }

  private async listen(elements: AsyncIterable<Element>): Promise<void> {
    try {
      for await (const e of elements) this.heard(e);
    } catch (e) {
      this.tell("disconnected", { why: String(e) });
    }
  }

  private heard(e: Element): void {
    if (["message", "presence", "iq"].includes(e.name)) this.session.heard++;
    if (e.name === "ping") this.write(sized(field(7, "")));
    if (e.name === "r") this.write(sized(field(4, field(1, this.session.heard))));
    if (e.name === "a") this.acknowledged(e);
    if (e.name === "error") this.tell("stream error", e.attrs);
    if (e.name === "close") this.socket?.end();
    if (e.name === "iq") this.asked.get(e.attrs["id"] ?? "")?.(e);
    if (e.name !== "message") return;
    const own = e.attrs["from"] === bare(this.address); // nobody else can say these
    const [confirmed, result] = [own && e.child("confirmed", NS.confirm), own && e.child("result", NS.mam)];
    const archived = result && result.child("forwarded", NS.forward)?.child("message", NS.client);
    const marker = e.children.find((c) => c.space === NS.marker);
    if (confirmed) this.tell("confirmed", confirmed.attrs);
    else if (result && archived) this.results.push(message(archived, result.attrs["id"]));
    else if (marker) this.tell("marker", { kind: marker.name, from: e.attrs["from"], ...marker.attrs });
    else if (e.child("body")) this.tell("message", message(e));
  }

  private stanza(...all: Parameters<Codec["stanza"]>): void {
    this.session.pending.push(this.codec.stanza(...all));
    this.write(...this.session.pending.slice(-1));
  }

  presence = () => this.stanza("presence", {});
  send(to: string, body: string): void {
    const id = randomUUID();
    this.stanza("message", { to, body, id, type: "chat" }, el(NS.sid, "origin-id", { id }));
  }
  marker = (to: string, kind: "delivered" | "read", number: number) =>
    this.stanza("message", { to, type: "chat" }, el(NS.marker, kind, { number: String(number) }));

  private async ask(type: "get" | "set", payload: Element): Promise<Element> {
    const id = randomUUID();
    const answer = new Promise<Element>((resolve) => this.asked.set(id, resolve));
    this.stanza("iq", { id, type }, payload);
    const e = await answer.finally(() => this.asked.delete(id));
    if (e.attrs["type"] === "error") throw new Error("refused: " + e.child("error")?.children[0]?.name);
    return e;
  }

  // history returns the newest messages with somebody.
  async history(who: string, max: number): Promise<object[]> {
    const item = (name: string, value: string) => el(NS.form, "field", { var: name }, el(NS.form, "value", {}, value));
    this.results = [];
    await this.ask("set", el(NS.mam, "query", {},
      el(NS.form, "x", { type: "submit" }, item("FORM_TYPE", NS.mam), item("with", who)),
      el(NS.rsm, "set", {}, el(NS.rsm, "max", {}, String(max)), el(NS.rsm, "before"))));
    return this.results;
  }

  // sync returns what has changed since the cursor, all of it when there is none.
  async sync(cursor = ""): Promise<object> {
    const answer = await this.ask("get", el(NS.sync, "sync", cursor ? { cursor } : {}));
    const { attrs = {}, children = [] } = answer.child("sync", NS.sync) ?? {};
    return {
      ...attrs,
      messages: children.filter((c) => c.name === "forwarded").map((f) => message(f.child("message", NS.client)!)),
      conversations: children.filter((c) => c.name === "conversation").map((c) => c.attrs),
    };
  }

  leave = () => this.write(sized(field(10, "")));
}
