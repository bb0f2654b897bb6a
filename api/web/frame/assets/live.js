// A page that is open stays true. It asks for itself again while it is looked at, and takes
// over the parts that changed: elements with an id and data-live, which every state of the
// page has. What the reader opened stays open, and the focus stays where it has an id.

import { upgrade } from "./times.js";

const every = 5000; // ms
const patience = 60000; // the longest pause after failures
const stale = document.getElementById("stale");

let failures = 0;
let timer;

function wait() {
  clearTimeout(timer);
  if (document.hidden) return;
  timer = setTimeout(refresh, Math.min(every * 2 ** failures, patience));
}

/** Asks for the page now, as after something was done. */
export async function refresh() {
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" }, cache: "no-store", redirect: "manual" });
    if (answer.type === "opaqueredirect") { // the session is over: the browser follows it to where one signs in
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    failures = 0;
    stale.hidden = true;
  } catch {
    failures++;
    stale.hidden = false;
  }
  wait();
}

/** Takes over what changed from a page that was just loaded. */
export function take(page) {
  const token = page.querySelector("meta[name=csrf]")?.content;
  if (token) {
    const ours = document.querySelector("meta[name=csrf]") ?? document.head.appendChild(Object.assign(document.createElement("meta"), { name: "csrf" }));
    ours.content = token;
  }
  upgrade(page);
  for (const old of document.querySelectorAll("[data-live][id]")) {
    const now = page.getElementById(old.id) ?? old.cloneNode(false); // gone: nothing of it is left
    if (same(old, now)) continue;
    if (old.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) continue;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((d) => d.id));
    for (const d of now.querySelectorAll("details[id]")) d.open = open.has(d.id);
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.className = now.className;
    old.replaceChildren(...document.adoptNode(now).childNodes);
    if (focused) document.getElementById(focused)?.focus();
    document.dispatchEvent(new CustomEvent("live", { detail: old.id }));
  }
}

// What the reader opened, and what scripts added, is no change.
function same(a, b) {
  const bare = (el) => {
    const copy = el.cloneNode(true);
    for (const d of copy.querySelectorAll("details")) d.removeAttribute("open");
    for (const added of copy.querySelectorAll("[data-added]")) added.remove();
    return copy.className + copy.innerHTML;
  };
  return bare(a) === bare(b);
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
addEventListener("online", refresh);
wait();
