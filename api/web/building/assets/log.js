// The button that has this browser verify the log.

import { Fault, verify } from "./chain.js";
import { inWords, serviceNow } from "../frame/times.js";

const root = document.getElementById("verifier");
const button = document.getElementById("verify");
const progress = document.getElementById("progress");
const verdict = document.getElementById("verdict");
const words = new Map([...document.querySelectorAll("#say dt")].map((dt) => [dt.textContent, dt.nextElementSibling.textContent]));

/** A sentence, with names in braces replaced. */
function say(key, values = {}) {
  return words.get(key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

const memory = "latchkey-head " + root.dataset.chain;

/** The head of the last verification in this browser, if it may keep anything. */
function remembered() {
  try {
    return localStorage.getItem(memory) ?? "";
  } catch {
    return "";
  }
}

function remember(head) {
  try {
    localStorage.setItem(memory, head);
    return true;
  } catch {
    return false;
  }
}

function show(tone, ...lines) {
  verdict.className = "note " + tone;
  verdict.replaceChildren(...lines.filter(Boolean).map((line) => {
    const p = document.createElement("p");
    p.textContent = line;
    return p;
  }));
}

async function fetched(path) {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", referrerPolicy: "no-referrer" });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer;
}

async function run() {
  verdict.replaceChildren();
  verdict.className = "";
  if (!globalThis.crypto?.subtle) {
    show("warn", say("insecure"));
    return;
  }
  progress.textContent = say("reading");
  let key, content;
  try {
    key = (await (await fetched(root.dataset.keys)).json()).keys[0].x;
    content = await (await fetched(root.dataset.export)).text();
  } catch {
    show("warn", say("unreachable"));
    return;
  }
  const kept = document.getElementById("kept").value.split(/\n\s*\n|\n(?=eyJ)/).map((s) => s.trim()).filter(Boolean);
  const before = remembered();
  if (before) kept.push(before);
  try {
    const found = await verify(content, { key, chain: root.dataset.chain, kept, progress: (n, of) => (progress.textContent = say("counting", { n, of })) });
    const at = (t) => inWords(new Date(t * 1000), false, serviceNow());
    show(found.signed ? "good" : "warn",
      say(found.cut ? "whole_cut" : "whole", { n: found.entries, hash: found.hash }),
      found.first === null ? "" : say("times", { from: at(found.first), until: at(found.last) }),
      found.signed ? "" : say("unsigned_browser"),
      before ? say("remembered") : "");
    verdict.append(...headLine(found.head));
    if (found.signed) remember(found.head);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const where = [error.seq ? say("entry", { n: error.seq }) : "", error.line ? say("line", { n: error.line }) : ""].filter(Boolean).join(" ");
    show("bad", say(error.kind), where);
  }
}

function headLine(head) {
  const p = document.createElement("p");
  p.textContent = say("head");
  const code = document.createElement("code");
  code.textContent = head;
  const line = document.createElement("p");
  line.className = "head";
  line.append(code);
  return [p, line];
}

root.hidden = false;
button.addEventListener("click", async () => {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await run();
  } finally {
    progress.textContent = "";
    button.removeAttribute("aria-busy");
  }
});
