// One person on the compact client, told what to do by JSON lines on standard input; what happens is told as JSON lines
// on standard output, as with the other clients here. A connection that breaks is made again until it holds.
import { createInterface } from "node:readline";
import { Client, Codec, type Dictionary, type Options } from "./compact.mjs";

const tell = (event: string, fields: object = {}) => console.log(JSON.stringify({ event, ...fields }));
let person: Client;
let leaving = false;

async function online(delay = 50): Promise<void> {
  try {
    const { mechanism, resumed } = await person.login();
    if (!resumed) person.presence();
    tell("online", { jid: person.address, mechanism, resumed });
  } catch (e) {
    tell("trouble", { what: String(e) });
    if (!/refused|stream error|proved/.test(String(e))) setTimeout(() => void online(delay * 2), delay);
  }
}

const orders: Record<string, (order: any) => Promise<void> | void> = {
  async connect({ published, ...options }: Options & { published: string }) {
    const dictionary = (await (await fetch(published)).json()) as Dictionary;
    person = new Client({ ...options, dictionary }, (event, fields) => {
      tell(event, fields);
      if (event === "disconnected" && !leaving) void online();
    });
    await online();
  },
  send: ({ to, body }) => person.send(to, body),
  marker: ({ to, kind, number }) => void person.marker(to, kind, number),
  history: async ({ who, max }) => tell("history", { messages: await person.history(who, max) }),
  sync: async ({ cursor }) => tell("synced", await person.sync(cursor)),
  forget: ({ token }) => void (person.token = token), // in the place of the one that it has
  async return() {
    leaving = false;
    await online();
  },
  leave() {
    leaving = true;
    person.leave();
  },
  // read tells what frames stand for, in hexadecimal without their length.
  async read({ published, frames }: { published: string; frames: string[] }) {
    const codec = new Codec((await (await fetch(published)).json()) as Dictionary);
    tell("read", { frames: frames.map((f) => codec.frame(Buffer.from(f, "hex")) ?? null) });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  Promise.resolve(orders[order.do]!(order)).catch((e) => tell("problem", { doing: order.do, what: String(e) }));
}
process.exit(0);
