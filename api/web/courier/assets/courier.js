// What a courier does at a stop. The server renders the list, this renders one stop, and
// attempt.js and doors.js say how far each thing came. All of it is forgotten with the page.

import { call } from "../frame/call.js";
import { refresh } from "../frame/live.js";
import { serviceNow } from "../frame/times.js";
import { Attempt, done, refused, sending, signedOut, waiting } from "./attempt.js";
import { Following } from "./doors.js";
import { endsLike, label, tail } from "./label.js";
import { Position } from "./position.js";
import { camera, scan } from "./scan.js";

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").textContent);
const lang = document.documentElement.lang;

/** The sentence of a key, with {name} replaced. */
function say(key, values = {}) {
  return words[key].replace(/\{([a-z_]+)\}/g, (whole, name) => values[name] ?? whole);
}

function show(el, text) {
  if (el.textContent !== text) el.textContent = text;
  el.hidden = text === "";
}

function tone(el, name) {
  for (const t of ["good", "warn", "bad", "plain"]) el.classList.toggle(t, t === name);
}

/** What the hand feels: done, refused, or not yet. */
function feel(name) {
  navigator.vibrate?.({ good: [120], bad: [80, 80, 80, 80, 240], warn: [60, 60, 60] }[name] ?? []);
}

function clock(t, zone) {
  const at = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Date(t).toLocaleTimeString(lang, { ...at, timeZone: zone || undefined });
  } catch {
    return new Date(t).toLocaleTimeString(lang, at); // a zone that the phone does not know
  }
}

// The phone's clock may be wrong: what runs out is reckoned by the service's, as the page
// told it. The shell was written some other day.
const skew = $("stops").querySelector("[data-shell]") ? 0 : serviceNow() - Date.now();
const now = () => Date.now() + skew;

const matched = (rule) => (text) => (rule.test(text.trim()) ? text.trim() : "");
const challengeRule = matched(/^[A-Za-z0-9_-]{11,43}$/);
const reportRule = matched(/^[A-Za-z0-9_-]{44,1024}$/);

/** Why there is no position, in words; "" where there is one, or was not asked for one yet. */
const whyNowhere = () => (words[`where.${position.state}`] ? say(`where.${position.state}`) : "");
const position = new Position(() => show($("where"), whyNowhere()));

// ---- what is known, in memory alone

const stops = new Map(); // by stop_id, as the API told them
const works = new Map(); // what was done at each, by stop_id
let open = null; // the stop_id that is looked at
let code = "";

/** What is done at one stop: its parcel, once read, its doors, and what is being sent. */
function workOf(id) {
  if (!works.has(id)) works.set(id, { parcel: "", ticked: new Map(), doors: new Map(), attempt: null, act: "", said: null });
  return works.get(id);
}

function doorOf(work, id) {
  if (!work.doors.has(id)) work.doors.set(id, { state: "locked", attempt: null, following: null, permit: null, why: "" });
  return work.doors.get(id);
}

const pending = () => [...works.values()].flatMap((w) => [w.attempt, ...[...w.doors.values()].map((d) => d.attempt)]).filter((a) => a?.pending);

function readStops() {
  const list = $("stops");
  if (list.querySelector("[data-shell]")) return;
  stops.clear();
  for (const el of list.querySelectorAll("[data-stop]")) {
    const stop = JSON.parse(el.dataset.stop);
    stops.set(stop.stop_id, stop);
  }
  // What was scanned while there was no list finds its stop.
  const loose = works.get("");
  if (loose?.parcel && !loose.attempt?.pending) {
    const found = matching(loose.parcel);
    if (found.length === 1) {
      works.set(found[0].stop_id, loose);
      works.delete("");
      if (open === "") open = found[0].stop_id;
    }
  }
}

/** The parcels of a stop. */
const parcelsOf = (stop) => stop.parcels ?? [stop];

const matching = (parcel) => [...stops.values()].filter((s) => parcelsOf(s).some((p) => endsLike(parcel, p.parcel_last4)));

/** Notes a label that was read. Of several parcels each that is still there is kept. */
function scanned(work, stop, parcel) {
  const there = stop.parcels?.some((p) => p.status === "active" && endsLike(parcel, p.parcel_last4));
  if (there) work.ticked.set(parcel, true);
  if (!there || !work.ticked.get(work.parcel)) work.parcel = parcel;
}

/** The labels that are ticked, of several parcels. */
const piecesOf = (work) => [...work.ticked.keys()].filter((parcel) => work.ticked.get(parcel));

function verify(said) {
  const ticked = piecesOf(workOf(open));
  attempt("verify", ticked.length > 0 ? { ...said, parcel_ids: ticked } : said);
}

// ---- one stop

/** The stop that is looked at; for a parcel that is on no list, as much as is known. */
function current() {
  const parcel = works.get(open)?.parcel ?? "";
  return stops.get(open) ?? { stop_id: open, parcel_last4: tail(parcel), purpose: "delivery", status: "active", code_required: true, doors: [], lines: [], unlisted: true };
}

function enter(id, push = true) {
  open = id;
  $("list").hidden = true;
  $("stop").hidden = false;
  $("door-list").replaceChildren();
  if (push) history.pushState({ stop: true }, "", location.pathname);
  position.start();
  render();
  $("stop-title").focus();
  scrollTo(0, 0);
}

function leave() {
  const from = open;
  open = null;
  $("stop").hidden = true;
  $("list").hidden = false;
  render();
  (document.getElementById(`open-${from}`) ?? $("list-title")).focus();
}

function render() {
  $("network").hidden = navigator.onLine;
  if (open === null) return;
  const stop = current();
  const work = workOf(open);
  show($("stop-title"), stop.name || say(`js.stop.${stop.unlisted ? "unlisted" : stop.purpose}`, { tail: stop.parcel_last4 }));
  show($("address"), [stop.unit, ...stop.lines, [stop.postal_code, stop.city].filter(Boolean).join(" ")].filter(Boolean).join(", "));
  show($("tail"), say(`js.stop.${stop.purpose}`, { tail: stop.parcel_last4 }));
  show($("status"), stop.unlisted ? "" : say(`js.status.${stop.status}`));
  tone($("status"), { released: "good", collected: "good", active: "plain" }[stop.status] ?? "warn");
  show($("parcel-state"), work.parcel ? say("js.parcel.read", { tail: tail(work.parcel) }) : say("js.parcel.unread"));
  $("parcel-state").classList.toggle("read", Boolean(work.parcel));
  $("scan-again").hidden = !work.parcel;
  renderPieces(stop, work);
  renderSaid(stop, work);
  renderDoors(stop, work);
  renderActs(stop, work);
}

let pieces = null; // what shows several parcels, loaded where a stop has them

function renderPieces(stop, work) {
  $("pieces").hidden = !stop.parcels;
  $("scan-again").textContent = say(stop.parcels ? "js.pieces.next" : "js.pieces.again");
  if (!stop.parcels) return;
  if (pieces) pieces.showPieces(stop, work, $, say);
  else import("./pieces.js").then((m) => ((pieces = m), render()));
}

function renderSaid(stop, work) {
  const said = saidOf(stop, work);
  for (const [box, title, text] of [[$("said"), $("said-title"), $("said-text")], [$("pad-said"), ...$("pad-said").children]]) {
    box.hidden = !said;
    if (!said) continue;
    tone(box, said.tone);
    show(title, said.title);
    show(text, said.text);
  }
}

/** What the page says about the last thing that was done at a stop. */
function saidOf(stop, work) {
  const a = work.attempt;
  if (!a) return null;
  switch (a.state) {
    case sending:
      return { tone: "plain", title: say("js.send.sending.title"), text: say("js.send.sending.text") };
    case waiting: // an instant, and not what is left of it: a reader would hear every second
      return { tone: "warn", title: say("js.send.waiting.title"), text: say("js.send.waiting.text", { time: clock(a.until, stop.time_zone) }) };
    case done:
      return { tone: "good", title: say(`js.done.${a.answer.receipt.act}.title`), text: say(`js.done.${a.answer.receipt.act}.text`, { time: clock(a.answer.receipt.at, stop.time_zone) }) };
    case refused:
      return { tone: "bad", ...(nowhere(a) ?? refusal(a.answer, stop)) };
    default:
      return { tone: "bad", title: say(`js.send.${a.state}.title`), text: say(`js.send.${a.state}.text`) };
  }
}

/** The words for what was refused because it was sent without a position. */
function nowhere(attempt) {
  const { code, reason, proofs, errors } = attempt.answer;
  const ofPlace = code === "outside-geofence" || reason === "outside-geofence" || (code === "access-refused" && !reason && ["failed", "missing"].includes(proofs?.place)) || (code === "invalid-request" && errors?.some((e) => e.location.startsWith("body.location")));
  return ofPlace && !attempt.where ? { title: say("js.nowhere"), text: attempt.whyNowhere } : null;
}

function refusal(problem, stop) {
  const key = `refused.${words[`refused.${problem.code}.title`] ? problem.code : "other"}`;
  let text = say(`${key}.text`);
  if (problem.code === "code-superseded") {
    text = problem.replaced_at ? say(`${key}.text`, { time: clock(problem.replaced_at, stop.time_zone) }) : say(`${key}.text_untimed`);
  }
  const left = problem.attempts_left;
  if (left > 0) text += ` ${left === 1 ? say("js.tries.one") : say("js.tries.other", { n: left })}`;
  if (left === 0) text += ` ${say("refused.code-locked.text")}`;
  return { title: say(`${key}.title`), text };
}

/** Why a door does not open: its own reason, else the first proof that fails. */
function doorRefusal(attempt) {
  const problem = attempt.answer;
  const { title: none, text: why } = nowhere(attempt) ?? {};
  if (none) return `${none}. ${why}`;
  if (problem.reason && words[`refused.${problem.reason}.title`]) return `${say(`refused.${problem.reason}.title`)}. ${say(`refused.${problem.reason}.text`)}`;
  if (problem.code === "access-refused") {
    const failed = Object.entries(problem.proofs ?? {}).find(([, result]) => result === "failed" || result === "missing");
    if (failed && words[`proof.${failed[0]}`]) return say(`proof.${failed[0]}`);
  }
  const { title, text } = refusal(problem, current());
  return `${title}. ${text}`;
}

function renderActs(stop, work) {
  const busy = work.attempt?.pending ?? false;
  const active = stop.status === "active";
  $("work").hidden = !active;
  const go = $("go");
  const next = busy ? "busy" : !work.parcel ? "scan" : stop.purpose === "return_pickup" ? "collect" : stop.code_required ? "code" : "release";
  show(go, say(`js.go.${next}`));
  go.dataset.next = next;
  go.disabled = busy;
  go.parentElement.hidden = !active;
  $("nobody").hidden = !active;
  $("nobody").disabled = busy;
  const until = stop.abortable_until;
  const abortable = Boolean(until) && Date.parse(until) > now();
  $("abort").hidden = !abortable;
  $("abort").disabled = busy;
  show($("abort-until"), abortable ? say("js.abort.until", { time: clock(until, stop.time_zone) }) : "");
  for (const key of $("keys").children) key.disabled = busy;
}

// ---- doors

const tones = {
  authorised: "plain", carried: "plain", pin: "plain", asking: "plain", delivered: "plain", confirmed: "good", opened: "good", relocked: "plain",
  failed: "bad", refused: "bad", turned_away: "bad", "no-answer": "warn", waiting: "warn", unknown: "warn",
};

/** The state of a door in the page's words: what the door said, or how far asking came. */
function stateOf(door, d) {
  if (d.attempt?.pending) return d.attempt.state === waiting ? "waiting" : "asking";
  if (d.state !== "authorised") return d.state;
  return { carried: "carried", keypad: "pin" }[door.mode] ?? "authorised";
}

function renderDoors(stop, work) {
  $("doors").hidden = stop.doors.length === 0;
  const list = $("door-list");
  for (const old of [...list.children]) if (!stop.doors.some((d) => d.door_id === old.dataset.door)) old.remove();
  for (const door of stop.doors) {
    let row = [...list.children].find((el) => el.dataset.door === door.door_id);
    if (!row) {
      row = $("door-row").content.firstElementChild.cloneNode(true);
      row.dataset.door = door.door_id;
      const several = stop.doors.filter((d) => d.kind === door.kind).length > 1;
      row.querySelector("h3").textContent = say(`door.kind.${door.kind}`) + (several ? ` ${door.door_id}` : "");
      list.append(row);
    }
    const d = doorOf(work, door.door_id);
    const state = stateOf(door, d);
    const said = row.querySelector(".door-state");
    show(said, say(`door.state.${state}`) + (d.following && !d.following.heard ? ` ${say("door.state.unheard")}` : ""));
    tone(said, tones[state] ?? "");
    const over = d.permit && Date.parse(d.permit.expires_at) <= now();
    let hint = d.why;
    if (!hint && !work.parcel) hint = say("door.hint.scan");
    else if (!hint && d.permit?.pin) hint = over ? say("door.hint.pin_over") : say("door.hint.pin", { from: clock(d.permit.valid_from, stop.time_zone), until: clock(d.permit.expires_at, stop.time_zone) });
    else if (!hint && door.consent === "missing") hint = say("door.hint.consent");
    else if (!hint && door.mode === "keypad") hint = say("door.hint.keypad");
    else if (!hint && door.challenge) hint = say("door.hint.challenge");
    show(row.querySelector(".door-hint"), hint);
    const pin = row.querySelector(".pin");
    const digits = d.permit?.pin && !over ? d.permit.pin : "";
    if (pin.dataset.pin !== digits) {
      pin.dataset.pin = digits;
      pin.replaceChildren(...[digits.slice(0, 4), digits.slice(4)].filter(Boolean).map((part) => Object.assign(document.createElement("span"), { textContent: part })));
    }
    pin.hidden = !digits;
    const button = row.querySelector(".unlock");
    show(button, say(`door.${door.mode === "keypad" ? "pin" : door.challenge ? "read" : "unlock"}.${door.kind}`));
    button.disabled = d.attempt?.pending ?? false;
    const carried = door.mode === "carried" && d.permit && !over && !["opened", "relocked", "refused"].includes(d.state);
    row.querySelector(".carry").hidden = !carried;
    row.querySelector(".report").hidden = !(door.mode === "carried" && d.permit && d.state !== "relocked");
  }
}

async function unlock(door) {
  const work = workOf(open);
  const stop = current();
  const d = doorOf(work, door.door_id);
  if (d.attempt?.pending) return; // a second tap
  if (!work.parcel && !(await readParcel())) return;
  let challenge;
  if (door.challenge) {
    challenge = await read("challenge", challengeRule);
    if (!challenge) return;
  }
  if (d.attempt?.pending) return;
  d.following?.stop();
  Object.assign(d, { following: null, permit: null, why: "", state: "locked", attempt: { pending: true, state: sending, wake() {} } });
  render();
  const where = await position.take();
  d.attempt = new Attempt({
    call, path: `/v1/doors/${encodeURIComponent(door.door_id)}/unlock`, changed: render,
    where, body: { parcel_id: work.parcel, challenge },
  });
  d.attempt.whyNowhere = whyNowhere();
  const a = await d.attempt.run();
  if (a.state === done) {
    d.permit = a.answer;
    d.state = "authorised";
    d.following = new Following({
      call, now, permit: a.answer,
      changed: (f) => {
        if (d.following !== f) return;
        if (f.state !== d.state) feel({ confirmed: "good", opened: "good", failed: "bad", refused: "bad", "no-answer": "warn" }[f.state] ?? "");
        d.state = f.state;
        if (["opened", "relocked"].includes(f.state) && shownPermit === d && $("permit").open) $("permit").close();
        render();
      },
    });
    d.following.run();
    if (door.mode === "carried" && open === stop.stop_id) await showPermit(stop, door, d);
  } else if (a.state === refused) {
    d.state = "turned_away";
    d.why = doorRefusal(a);
    feel("bad");
  } else {
    d.state = "unknown";
    d.why = a.state === signedOut ? say("js.send.signed-out.text") : "";
    feel("warn");
  }
  render();
}

let shownPermit = null;

async function showPermit(stop, door, d) {
  shownPermit = d;
  const { generate, mode } = await import($("qr").getAttribute("value"));
  generate(d.permit.permit, { modes: [mode.ascii] }).toCanvas($("permit-code"), { on: [0, 0, 0, 255], off: [255, 255, 255, 255] });
  show($("permit-until"), say("js.permit.until", { time: clock(d.permit.expires_at, stop.time_zone) }));
  $("permit-copy").onclick = async () => {
    try {
      await navigator.clipboard.writeText(d.permit.permit);
      show($("permit-until"), say("js.permit.copied"));
    } catch {
      show($("permit-until"), say("js.permit.failed"));
    }
  };
  $("permit-report").onclick = () => {
    $("permit").close();
    report(door, d);
  };
  if (!$("permit").open) $("permit").showModal();
}

// A door without a network answers by what it shows, which the phone brings. A report that
// was brought twice counts once.
async function report(door, d) {
  const text = await read("report", reportRule);
  if (!text) return;
  const bring = new AbortController();
  const timer = setTimeout(() => bring.abort(), 10_000);
  try {
    const answer = await call("POST", `/v1/doors/${encodeURIComponent(door.door_id)}/reports`, { reports: [text] }, bring.signal);
    const bad = answer.ok ? answer.json.refused[0]?.code : answer.json?.code;
    d.why = bad ? refusal({ code: bad }, current()).text : "";
    if (!bad) await d.following?.look();
  } catch {
    d.why = say("door.state.unheard");
  } finally {
    clearTimeout(timer);
  }
  render();
}

// ---- reading labels, doors and answers

let reading = null; // how a reading ends

/**
 * Reads something by camera or keyboard; "" if the courier gives it up.
 * @param {(text: string) => string} rule what a text says; "" where it says nothing
 */
function read(kind, rule, check = () => "") {
  reading?.("");
  return new Promise((resolve) => {
    const dialog = $("scanner");
    const over = new AbortController();
    const end = (text) => {
      if (reading !== end) return;
      reading = null;
      over.abort();
      $("finder").classList.remove("on");
      if (dialog.open) dialog.close();
      resolve(text);
    };
    reading = end;
    for (const part of ["title", "hint"]) show($(`scanner-${part}`), say(`js.scan.${kind}.${part}`));
    show($("typed-label"), say(`js.scan.${kind}.label`));
    show($("scanner-said"), "");
    $("typed-text").value = "";
    $("use-camera").hidden = !camera();
    const take = (text) => {
      const bare = rule(text);
      const wrong = bare ? check(bare) : say(`js.scan.wrong.${kind}`);
      if (wrong) {
        if ($("scanner-said").hidden || $("scanner-said").textContent !== wrong) feel("warn");
        show($("scanner-said"), wrong);
        return;
      }
      feel("good");
      end(bare);
    };
    $("typed").onsubmit = (event) => {
      event.preventDefault();
      take($("typed-text").value);
    };
    const look = async () => {
      $("use-camera").hidden = true;
      $("finder").classList.add("on");
      try {
        await scan({ video: $("video"), decoder: $("decoder").getAttribute("value"), found: take, signal: over.signal });
      } catch (error) {
        $("finder").classList.remove("on");
        show($("scanner-said"), say(error?.name === "NotAllowedError" ? "js.scan.denied" : "js.scan.broken"));
        $("typed-text").focus();
      }
    };
    $("use-camera").onclick = look;
    $("scanner-close").onclick = () => end("");
    dialog.onclose = () => end("");
    dialog.showModal();
    // Where the camera was allowed before, it starts; else the browser asks after a tap.
    navigator.permissions?.query({ name: "camera" }).then((p) => p.state === "granted" && reading === end && look(), () => {});
  });
}

/** Reads the parcel of the stop that is looked at. */
async function readParcel() {
  const stop = current();
  const id = open;
  const parcel = await read("parcel", label, (text) => (!stop.unlisted && !parcelsOf(stop).some((p) => endsLike(text, p.parcel_last4)) ? say("js.scan.other") : ""));
  if (!parcel) return false;
  const work = workOf(id);
  if (work.parcel !== parcel && !work.attempt?.pending) work.attempt = null;
  scanned(work, stop, parcel);
  render();
  return true;
}

async function scanAny() {
  const parcel = await read("parcel", label);
  if (!parcel) return;
  const found = matching(parcel);
  const id = found.length > 0 ? (found.find((s) => s.status === "active") ?? found[0]).stop_id : "";
  if (id === "" && works.get("")?.attempt?.pending !== true) works.delete("");
  scanned(workOf(id), stops.get(id) ?? {}, parcel);
  enter(id);
}

// ---- handing over

/** Sends what is meant, once, and shows how far it came. */
async function attempt(act, body) {
  const work = workOf(open);
  if (work.attempt?.pending) return; // a second tap
  const parcel = body.parcel_ids?.[0] ?? ((act === "abort" && work.handed) || work.parcel);
  work.attempt = { pending: true, state: sending, wake() {} }; // holds the place while the position is asked
  render();
  const where = await position.take();
  work.attempt = new Attempt({ call, path: `/v1/parcels/${encodeURIComponent(parcel)}/${act}`, where, body, changed: render });
  work.attempt.whyNowhere = whyNowhere();
  const a = await work.attempt.run();
  if (a.state === done && act === "verify" && a.answer.receipt.still_there_last4) { // the others are scanned for themselves
    for (const parcel of a.answer.receipt.parcel_ids) work.ticked.delete(parcel);
    [work.handed, work.parcel] = [parcel, piecesOf(work)[0] ?? ""];
  }
  feel(a.state === done ? "good" : a.state === refused ? "bad" : "warn");
  // Where another code may help, the pad stays.
  if ($("pad").open && !(a.state === refused && ["code-mismatch", "code-superseded", "code-required"].includes(a.answer.code))) $("pad").close();
  render();
  if (open !== null && !$("pad").open) $("said").scrollIntoView({ block: "nearest" });
  refresh();
}

function showPad() {
  code = "";
  const work = workOf(open);
  if (!work.attempt?.pending) work.attempt = null;
  renderCode();
  render();
  $("pad").showModal();
  $("keys").querySelector("[data-key]").focus();
}

function renderCode() {
  $("digits").textContent = `${code}${"·".repeat(6 - code.length)}`.replace(/^(...)/, "$1 ");
  $("digits-said").textContent = say("js.pad.typed", { n: code.length });
}

function press(key) {
  if (workOf(open).attempt?.pending) return;
  if (key === "erase") code = code.slice(0, -1);
  else if (code.length < 6) code += key;
  renderCode();
}

function sendCode() {
  if (workOf(open).attempt?.pending) return;
  if (code.length !== 6) {
    $("digits-said").textContent = say("js.pad.short");
    feel("warn");
    return;
  }
  const said = code;
  code = "";
  renderCode();
  verify({ code: said });
}

async function sure(what, act) {
  const id = open;
  if (workOf(id).attempt?.pending) return;
  if (!workOf(id).parcel && !(act === "abort" && workOf(id).handed) && !(await readParcel())) return;
  for (const part of ["title", "text"]) show($(`sure-${part}`), say(`js.${what}.${part}`));
  show($("sure-yes"), say(`js.${what}.yes`));
  $("sure-yes").onclick = () => {
    $("sure").close();
    attempt(act, { reason: say(`js.${what}.reason`) });
  };
  $("sure").showModal();
}

// ---- what is pressed

$("stops").addEventListener("click", (event) => {
  const button = event.target.closest("[data-open]");
  if (button && stops.has(button.dataset.open)) enter(button.dataset.open);
});
$("scan-any").addEventListener("click", scanAny);
$("back").addEventListener("click", () => history.back());
addEventListener("popstate", () => {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  if (open !== null) leave();
});
$("scan-again").addEventListener("click", readParcel);
$("pieces-list").addEventListener("change", (event) => {
  pieces.tick(workOf(open), event.target.dataset.parcel, event.target.checked);
  render();
});
$("door-list").addEventListener("click", (event) => {
  const row = event.target.closest(".door");
  const door = row && current().doors.find((d) => d.door_id === row.dataset.door);
  if (!door) return;
  const d = doorOf(workOf(open), door.door_id);
  if (event.target.closest(".unlock")) unlock(door);
  else if (event.target.closest(".carry")) showPermit(current(), door, d);
  else if (event.target.closest(".report")) report(door, d);
});
$("go").addEventListener("click", async () => {
  const { next } = $("go").dataset;
  if (next === "scan") await readParcel();
  else if (next === "code") showPad();
  else if (next === "release" || next === "collect") verify({});
});
$("nobody").addEventListener("click", () => sure("nobody", "attempted"));
$("abort").addEventListener("click", () => sure("abort", "abort"));
$("sure-no").addEventListener("click", () => $("sure").close());
$("permit-close").addEventListener("click", () => $("permit").close());
$("pad-close").addEventListener("click", () => $("pad").close());
$("keys").addEventListener("click", (event) => {
  const { key } = event.target.dataset;
  if (key) press(key);
});
$("erase").addEventListener("click", () => press("erase"));
$("send").addEventListener("click", sendCode);
// Of the whole page: a button that is switched off while it has the focus, as the one that
// sends is, leaves it to nobody.
document.addEventListener("keydown", (event) => {
  if (!$("pad").open) return;
  if (/^[0-9]$/.test(event.key)) press(event.key);
  else if (event.key === "Backspace") press("erase");
  else if (event.key === "Enter" && code.length === 6 && event.target.id !== "pad-close") {
    event.preventDefault();
    sendCode();
  }
});
$("pad").addEventListener("close", () => {
  code = "";
  renderCode();
});

// ---- the world around

document.addEventListener("live", (event) => {
  if (event.detail !== "stops") return;
  readStops();
  render();
});
addEventListener("online", () => {
  for (const a of pending()) a.wake();
  render();
});
addEventListener("offline", render);
addEventListener("beforeunload", (event) => {
  if (pending().length > 0) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) position.stop();
  else if (open !== null) position.start();
});
setInterval(render, 1000); // times that run out

readStops();
render();
navigator.serviceWorker?.register("/courier/worker.js", { scope: "/courier" }).catch(() => {}); // without one the page needs a network to open
