// What a label says, read as the service reads it (handoff/label.go), so that the page can
// tell whose parcel it is. The service has the last word: it checks the check digits, and
// knows what carriers' own ids look like. A test holds both to the same labels.

const most = 512; // bytes
const rule = /^[A-Za-z0-9._-]{1,64}$/;
const sscc = /^[0-9]{18}$/;
const fnc1 = "\x1d";
const gs1 = new Set(["C1", "d2", "Q3", "J1", "e0", "e1", "e2"]);

// The lengths of elements that follow each other directly, by their first two digits.
const lengths = { "00": 20, "01": 16, "02": 16, "03": 16, "04": 18, "20": 4, "41": 16 };
for (const ai of [11, 12, 13, 14, 15, 16, 17, 18, 19]) lengths[ai] = 8;
for (const ai of [31, 32, 33, 34, 35, 36]) lengths[ai] = 10;

/** The id to send; "" where the text is none. */
export function label(read) {
  if (new TextEncoder().encode(read).length > most) return "";
  let text = tidy(read);
  let isGS1 = false;
  if (/^\].../s.test(text) || /^\]..$/.test(text)) {
    isGS1 = gs1.has(text.slice(1, 3));
    text = text.slice(3);
  }
  if (/^https?:\/\//i.test(text)) return link(text);
  if (text.startsWith("(")) return text.match(/\(00\)([0-9]{18})(?:\(|$)/)?.[1] ?? "";
  if (isGS1 || text.includes(fnc1)) {
    const found = elements(text);
    if (found) return found;
    text = text.replace(/^\x1d+|\x1d+$/g, "");
  }
  if (/^00[0-9]{18}$/.test(text) && holds(text.slice(2))) return text.slice(2);
  return rule.test(text) && text !== "." && text !== ".." ? text : "";
}

/** The characters of an id by which lists name a parcel. */
export const tail = (id) => id.slice(-Math.min(4, Math.floor(id.length / 2)));

/** Whether an id can be of a parcel that is listed by its last characters. */
export const endsLike = (id, last) => tail(id).toUpperCase() === last.toUpperCase();

function tidy(read) {
  return read
    .replace(/\p{Cf}/gu, "")
    .replace(/^[^\S\x1d]+|[^\S\x1d]+$/g, "")
    .replace(/\p{Zs}/gu, "")
    .replace(/[！-～]/g, (c) => String.fromCharCode(c.charCodeAt(0) - 0xfee0));
}

function link(text) {
  let parts;
  try {
    parts = decodeURI(new URL(text).pathname).replace(/\/+$/, "").split("/");
  } catch {
    return "";
  }
  const [key, value] = parts.slice(-2);
  return parts.length > 2 && (key === "00" || key === "sscc") && sscc.test(value) ? value : "";
}

function elements(text) {
  for (let rest = text.replace(/^\x1d+/, ""); rest.length >= 2; ) {
    const length = lengths[rest.slice(0, 2)];
    if (length > rest.length) return "";
    const [element] = rest.slice(0, length ?? rest.length).split(fnc1);
    if (element.startsWith("00")) return sscc.test(element.slice(2)) ? element.slice(2) : "";
    rest = rest.slice(element.length).replace(/^\x1d+/, "");
  }
  return "";
}

/** The check digit of an SSCC: modulo 10, with weights 3 and 1 from the right. */
function holds(id) {
  return [...id].reduce((sum, digit, i) => sum + digit * ((id.length - i) % 2 === 0 ? 3 : 1), 0) % 10 === 0;
}
