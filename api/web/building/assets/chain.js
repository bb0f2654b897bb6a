// Verifies the export of a hash chain (docs/audit.md), with what every browser brings
// along. It asks no server: the text and the key are enough to verify.
//
// It finds what latchkey audit verify finds, and calls it by the same words.

const domain = "latchkey/chain/v1";
const text = new TextEncoder();
const bytes = (s) => Uint8Array.from(atob(s.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const base64url = (b) => btoa(String.fromCharCode(...b)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** What is wrong, and where first. seq and line are 0 where there is no one entry or line. */
export class Fault extends Error {
  constructor(kind, seq = 0, line = 0) {
    super(kind);
    Object.assign(this, { kind, seq, line });
  }
}

async function sha256(...parts) {
  let length = 0;
  for (const p of parts) length += p.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/** The key for verifying, or null in a browser that does not know Ed25519. */
async function importKey(key) {
  try {
    return await crypto.subtle.importKey("raw", bytes(key), { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error.name === "NotSupportedError") return null;
    throw new Fault("unsigned");
  }
}

/** What a signed head or cut says. The header is what the service writes, and no other. */
async function open(jws, type, key, imported, line = 1) {
  const parts = typeof jws === "string" ? jws.split(".") : [];
  try {
    const header = JSON.stringify({ alg: "EdDSA", kid: key, typ: type });
    if (parts.length !== 3 || parts[0] !== base64url(text.encode(header))) throw new Fault("unsigned");
    const signed = text.encode(parts[0] + "." + parts[1]);
    if (imported && !(await crypto.subtle.verify({ name: "Ed25519" }, imported, bytes(parts[2]), signed))) throw new Fault("unsigned");
    const said = JSON.parse(new TextDecoder().decode(bytes(parts[1])));
    if (typeof said.chain !== "string" || typeof said.hash !== "string" || !Number.isSafeInteger(said.seq) || said.seq < 0) throw new Fault("unsigned");
    return said;
  } catch {
    throw new Fault("unsigned", 0, line);
  }
}

function json(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** The entry of a line as it was chained, with its number; null for no such line. */
function entryOf(line) {
  const end = line.lastIndexOf(',"hash":"');
  if (!line.startsWith('{"entry":') || end < 0 || !line.endsWith('"}')) return null;
  const raw = line.slice('{"entry":'.length, end);
  const parsed = json(raw);
  if (!parsed || !Number.isSafeInteger(parsed.seq)) return null;
  return { raw, seq: parsed.seq, at: parsed.at, hash: line.slice(end + ',"hash":"'.length, -2) };
}

/** Why another entry stands where want is due: what follows tells. */
function misplaced(want, found, rest, line, last) {
  const after = rest.map((l) => entryOf(l)?.seq ?? 0);
  const comes = after.includes(want);
  if (comes) return new Fault(found < want ? "inserted" : "reordered", want, line);
  const next = after[0] ?? 0;
  if (found < want || next === want + 1 || (next === 0 && want === last)) return new Fault("changed", want, line);
  return new Fault("dropped", want, line);
}

/**
 * Verifies an export. kept are heads that the reader kept; chain is what it has to be of.
 * It returns what holds, and throws the first Fault. signed is false where the browser
 * could not verify the signatures, and everything else holds.
 */
export async function verify(content, { key, chain, kept = [], progress = () => {} }) {
  const lines = content.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const opening = json(lines[0] ?? "");
  if (opening?.format !== domain) throw new Fault("unreadable", 0, 1);
  const imported = await importKey(key);
  const head = await open(opening.head, "latchkey-head+jws", key, imported);
  if (head.chain !== chain) throw new Fault("foreign", 0, 1);
  const name = text.encode(domain + "\0" + head.chain);
  const start = text.encode(domain + "\0" + head.chain + "\0");
  let begin = { seq: 0, hash: base64url(await sha256(name)), chain: head.chain };
  if (opening.cut !== undefined) {
    begin = await open(opening.cut, "latchkey-cut+jws", key, imported);
    if (begin.chain !== head.chain || begin.seq > head.seq) throw new Fault("unsigned", 0, 1);
  }
  const ends = [];
  for (const one of kept) {
    const end = await open(one.replace(/\s+/g, ""), "latchkey-head+jws", key, imported, 0);
    if (end.chain !== head.chain) throw new Fault("foreign");
    if (end.seq > head.seq) throw new Fault("older", head.seq + 1);
    if (end.seq === begin.seq && end.hash !== begin.hash) throw new Fault("rewritten", end.seq);
    ends.push(end);
  }
  let { seq, hash } = begin;
  let first = null;
  let last = null;
  for (let i = 1; seq < head.seq; i++) {
    const want = seq + 1;
    if (i >= lines.length) throw new Fault("dropped", want, i + 1);
    const entry = entryOf(lines[i]);
    if (!entry) throw new Fault("changed", want, i + 1);
    if (entry.seq !== want) throw misplaced(want, entry.seq, lines.slice(i + 1), i + 1, head.seq);
    const found = base64url(await sha256(start, bytes(hash), text.encode(entry.raw)));
    if (found !== entry.hash) throw new Fault("changed", want, i + 1);
    seq = want;
    hash = found;
    last = entry.at;
    first ??= entry.at;
    for (const end of ends) {
      if (end.seq === seq && end.hash !== hash) throw new Fault("rewritten", seq, i + 1);
    }
    if (seq % 500 === 0) progress(seq - begin.seq, head.seq - begin.seq);
  }
  if (lines.length !== seq - begin.seq + 1) throw new Fault("inserted", seq + 1, seq - begin.seq + 2);
  if (hash !== head.hash) throw new Fault("rewritten");
  return { entries: head.seq - begin.seq, first, last, cut: begin.seq, head: opening.head, hash, seq: head.seq, signed: imported !== null };
}
