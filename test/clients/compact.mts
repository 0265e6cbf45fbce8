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
  readonly attrs: Record<string, string>;
  constructor(readonly space: string, readonly name: string, attrs = {}, ...inside: (Element | string)[]) {
    this.attrs = attrs;
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

function* fields(data: Value): Generator<[number, Value]> {
  if (typeof data === "number") throw new Error("a number in the place of a message");
  let at = 0;
  const varint = () => {
    for (let n = 0, unit = 1; ; unit *= 128) {
      const byte = data.readUInt8(at++);
      n += (byte & 127) * unit;
      if (byte < 128) return n;
    }
  };
  while (at < data.length) {
    const tag = varint();
    const [number, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) { yield [number, varint()]; continue; }
    const size = wire === 2 ? varint() : wire === 1 ? 8 : wire === 5 ? 4 : Infinity;
    if (at + size > data.length) throw new Error("a field is longer than what holds it");
    yield [number, data.subarray(at, (at += size))];
  }
}

function varint(n: number): Buffer {
  const out: number[] = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) + 128);
  return Buffer.from([...out, n]);
}
const sized = (data: Buffer) => Buffer.concat([varint(data.length), data]);
const field = (number: number, value: number | string | Buffer) =>
  typeof value === "number" ? Buffer.concat([varint(number * 8), varint(value)])
    : Buffer.concat([varint(number * 8 + 2), sized(typeof value === "string" ? Buffer.from(value) : value)]);

const text = (v: Value = 0) => (typeof v === "number" ? "" : v.toString("utf8"));
const coded = (v: Value, as: BufferEncoding) => (typeof v === "number" ? "" : v.toString(as));
const bare = (address: string) => address.split("/")[0] ?? "";
// What the dictionary does not have gets a name that nobody asks for.
const entry = (list: Names, n: Value) => list[Number(n)] ?? "unknown-" + n;
const key = (space: string, name: string) => (space ? `{${space}}` : "") + name;

// ---- Frames to elements, and back ----

type Around = { space: string; id: string; account: string };
const attributeForms = ["text", "uuid", "key", "word", "uri", "data", "key", "seconds", "millis"]; // from field 5 on

export class Codec {
  constructor(readonly dictionary: Dictionary) {}

  private value(as: string, v: Value, names: Names = [], account = ""): string {
    switch (as) {
      case "text": return text(v);
      case "uuid": return coded(v, "hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
      case "key": return coded(v, "base64url");
      case "data": return coded(v, "base64");
      case "number": return String(v);
      case "millis": return new Date(Number(v)).toISOString();
      case "seconds": return new Date(Number(v) * 1000).toISOString().replace(".000Z", "Z");
      case "name": return v ? entry(names, v) : "";
      case "word": return entry(this.dictionary.words, v);
      case "uri": return entry(this.dictionary.namespaces, v);
      case "own": return account + (text(v) && "/" + text(v));
    }
    return "";
  }

  // named reads what elements and attributes begin with; the rest is the other fields.
  private named(data: Value, space: string): { space: string; name: string; rest: [number, Value][] } {
    let name = "";
    const rest = [...fields(data)].filter(([number, v]) => {
      if (number === 1 && v) space = this.value("uri", v);
      else if (number === 2) space = text(v);
      else if (number === 3 && v) name = this.value("word", v);
      else if (number === 4) name = text(v);
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
        e.attrs[key(a.space, a.name)] = this.value(attributeForms[form - 5]!, value);
      } else if (number === 7) e.children.push(this.element(v, space));
      else if (number === 8) {
        for (const [kind, node] of fields(v)) {
          kind === 1 ? (e.text += text(node)) : e.children.push(this.element(node, space));
        }
      } else e.text += this.value({ 6: "text", 9: "word", 10: "data" }[number] ?? "", v);
    }
    return e;
  }

  private payload(data: Value, around: Around): Element[] {
    for (const [number, v] of fields(data)) {
      const form = this.dictionary.payloads[number];
      if (!form) continue; // a kind that is not known
      const signal = form.name === "signal" ? this.dictionary.signals[Number(v)] : undefined;
      if (signal) return [el(signal.namespace, signal.element, {}, signal.text ?? "")];
      if (form.name === "signal") return []; // one that is not known
      if (form.name === "element") return [this.element(v, around.space)];
      if (form.as === "number") return [el(form.namespace, form.element, { number: String(v) })];
      return [this.typed(form, v, around)];
    }
    return [];
  }

  private typed(form: Form, data: Value, around: Around): Element {
    const [e, list] = [el(form.namespace, form.element), form.fields ?? []];
    for (const [number, v] of fields(data)) {
      const f = list.find((f) => f.number === number);
      if (f?.as === "content") e.text = text(v);
      const value = f?.attribute && this.value(f.as, v, f.names, around.account);
      if (value) e.attrs[key(f.namespace ?? "", f.attribute!)] = value;
    }
    const { attribute = "", is = "sha-1" } = form.implied ?? {};
    const implied = { "stanza-id": around.id, account: around.account, "sha-1": "sha-1" }[is];
    if (attribute && implied) e.attrs[attribute] ??= implied;
    const id = form.namespace === NS.client ? (e.attrs["id"] ?? "") : "";
    const inside = { space: form.namespace, id, account: around.account };
    for (const f of list) {
      for (const [number, v] of fields(data)) {
        if (number !== f.number) continue;
        if (f.as === "child") e.children.push(el(form.namespace, f.child!, {}, text(v)));
        else if (f.as === "payload") e.children.push(...this.payload(v, inside));
        else if (f.as === "form") e.children.push(this.typed(this.dictionary.forms[f.form!]!, v, inside));
      }
    }
    if (form.within) e.children = [el(NS.forward, form.within, {}, ...e.children)];
    return e;
  }

  // frame returns the element that a frame stands for; of a kind that is not known, nothing.
  frame(data: Buffer): Element | undefined {
    for (const [number, v] of fields(data)) {
      if (number === 8) return this.element(v, "");
      if (number > 11) continue; // a kind that is not known
      const one = (n: number) => [...fields(v)].find(([number]) => number === n)?.[1];
      const account = bare(text(one(one(11) === undefined ? 1 : 2)));
      const element = { 1: "message", 2: "presence", 3: "iq" }[number] ?? "";
      switch (number) {
        case 1: case 2: case 3:
          return this.typed({ ...this.dictionary.forms["Stanza"]!, element }, v, { space: "", id: "", account });
        case 4: return el(NS.sm, "a", { h: String(one(1) ?? 0) });
        case 5: return el(NS.sm, "r");
        case 6: case 7: case 9: case 10: return el("", { 6: "ping", 7: "pong", 9: "open", 10: "close" }[number]);
        case 11: return el("", "error", { condition: entry(this.dictionary.stream_conditions, one(1) || 21) });
      }
    }
    return undefined;
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
const message = (e: Element, archived = e.child("stanza-id", NS.sid)?.attrs["id"]) => ({
  id: e.attrs["id"], from: e.attrs["from"], body: e.child("body")?.text,
  number: Number(e.child("position", NS.position)?.attrs["number"]), archived,
});

export class Client {
  token = "";
  address = "";
  private codec: Codec;
  private socket?: Socket;
  private frames: Element[] = [];
  private wake = () => {};
  private gone = false;
  private session = { id: "", heard: 0, acknowledged: 0, pending: [] as Buffer[] };
  private asked = new Map<string, (answer: Element) => void>();
  private results: ReturnType<typeof message>[] = [];

  constructor(readonly options: Options, readonly tell: (event: string, fields: object) => void) {
    this.codec = new Codec(options.dictionary);
  }

  private write = (...frames: Buffer[]) => this.socket?.write(Buffer.concat(frames));

  private connect(): void {
    const socket = (this.socket = connect({ host: this.options.host, port: this.options.port, noDelay: true }));
    let unread = Buffer.alloc(0);
    [this.frames, this.gone] = [[], false];
    const end = () => { this.gone ||= socket === this.socket; this.wake(); };
    socket.on("error", end).on("close", end).on("data", (data) => {
      unread = Buffer.concat([unread, data]);
      for (;;) {
        const at = unread.findIndex((byte) => byte < 128) + 1; // where the length ends
        const size = unread.subarray(0, at).reduceRight((n, byte) => n * 128 + (byte & 127), 0);
        if (at === 0 || unread.length < at + size) break;
        const e = this.codec.frame(unread.subarray(at, at + size));
        unread = unread.subarray(at + size);
        if (e) this.frames.push(e);
      }
      this.wake();
    });
  }

  private async next(): Promise<Element> {
    while (this.frames.length === 0) {
      if (this.gone) throw new Error("the connection is lost");
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    return this.frames.shift()!;
  }

  private authenticate(mechanism: string, first: string | Buffer, how: Element): Buffer {
    const { id, heard } = this.session;
    const enable = [el(NS.sm, "enable", { resume: "true" }), el(NS.carbons, "enable"), el(NS.confirm, "enable")];
    return this.codec.top(el(NS.sasl, "authenticate", { mechanism },
      el(NS.sasl, "initial-response", {}, Buffer.from(first as string).toString("base64")),
      el(NS.sasl, "user-agent", { id: this.options.device }), how,
      ...(id ? [el(NS.sm, "resume", { previd: id, h: String(heard) })] : []),
      el(NS.bind, "bind", {}, el(NS.bind, "tag", {}, "ts"), ...enable)));
  }

  // login comes back with the token and the stream of before when there are any, and with the password otherwise.
  async login(): Promise<{ mechanism: string; resumed: boolean }> {
    const { username, domain, password, dictionary } = this.options;
    this.connect();
    const from = `${username}@${domain}`;
    const open = Buffer.concat([field(1, from), field(2, domain), field(4, "1.0"), field(6, dictionary.schema)]);
    const proof = Buffer.concat([Buffer.from(username + "\0"), hmac(this.token, "Initiator")]);
    this.write(sized(field(9, open)), ...(this.token ? [this.authenticate(none, proof, el(NS.fast, "fast"))] : []));
    const nonce = randomBytes(18).toString("base64");
    const first = `n=${username},r=${nonce}`;
    const request = el(NS.fast, "request-token", { mechanism: none });
    const withPassword = () => this.write(this.authenticate("SCRAM-SHA-256", "n,," + first, request));
    let expected = hmac(this.token, "Responder");
    for (;;) {
      const e = await this.next();
      if (e.name === "error") throw new Error("stream error " + e.attrs["condition"]);
      if (e.name === "failure" && !this.token) throw new Error("refused: " + e.children[0]?.name);
      if (e.name === "failure") this.token = ""; // the first features have come before it
      if (e.name === "failure" || (e.name === "features" && !this.token)) withPassword();
      if (e.name === "challenge") {
        const challenge = Buffer.from(e.text, "base64").toString();
        const [r = "", s = "", i] = challenge.split(",").map((part) => part.slice(2));
        if (!r.startsWith(nonce)) throw new Error("the nonce is not ours");
        const salted = pbkdf2Sync(password, Buffer.from(s, "base64"), Number(i), 32, "sha256");
        const [clientKey, all] = [hmac(salted, "Client Key"), `${first},${challenge},c=biws,r=${r}`];
        const signature = hmac(createHash("sha256").update(clientKey).digest(), all);
        const p = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!)).toString("base64");
        expected = Buffer.from("v=" + hmac(hmac(salted, "Server Key"), all).toString("base64"));
        this.write(this.codec.top(el(NS.sasl, "response", {}, Buffer.from(`c=biws,r=${r},p=${p}`).toString("base64"))));
      }
      if (e.name !== "success") continue;
      const data = Buffer.from(e.child("additional-data")?.text ?? "", "base64");
      if (!data.equals(expected)) throw new Error("the server has proved nothing");
      const [mechanism, resumed] = [this.token ? none : "SCRAM-SHA-256", e.child("resumed", NS.sm)];
      this.token = e.child("token", NS.fast)?.attrs["token"] ?? this.token;
      this.address = e.child("authorization-identifier")?.text ?? "";
      const enabled = e.child("bound", NS.bind)?.child("enabled", NS.sm);
      if (resumed) this.acknowledged(resumed);
      else this.session = { ...this.session, id: enabled?.attrs["id"] ?? "", heard: 0, acknowledged: 0 };
      this.write(...this.session.pending); // once more: the origin-ids are the same, so nothing has two effects
      void this.listen();
      return { mechanism, resumed: resumed !== undefined };
    }
  }

  private acknowledged(e: Element): void {
    this.session.pending.splice(0, Number(e.attrs["h"]) - this.session.acknowledged);
    this.session.acknowledged = Number(e.attrs["h"]);
  }

  private async listen(): Promise<void> {
    try {
      for (;;) this.heard(await this.next());
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
