// The page of the sample building's doors. What it shows of a door comes from the event
// log, by way of /demo/doors; what it asks for, it asks of the public HTTP contract.

import { $, ask, askAs, assignCourier, dayAt, digits, doing, element, now, place, readClock, refused, say, sayIf, show, statusName, timeAt } from './common.js';

const parcels = JSON.parse($('parcels').textContent);

const state = {
  doors: {},      // by kind, as /demo/doors has them
  challenges: {}, // by kind, as read at the door
  permit: null,   // for the lobby, on the courier's phone
  account: null,  // the chosen parcel, as its customer sees it
  shown: '',      // of the doors
  told: '',       // of the events
};

const chosen = () => parcels[$('parcel').selectedIndex];
const zone = () => chosen().dispatch.destination.time_zone;
const clock = (at) => timeAt(at, zone(), { day: undefined, month: undefined, second: '2-digit' });
const asCourier = () => ({ scope: 'courier', sub: chosen().courier.id, carrier_id: chosen().dispatch.carrier_id });
const asCustomer = () => ({ scope: 'customer', sub: chosen().dispatch.customer.id });

// ---- the doors

const kinds = ['gate', 'lobby', 'garage'];
const name = (kind) => say(`doors.${kind}.name`);

// moods are the colours of the states; every other state is told without one.
const moods = {
  authorised: 'wait', carried: 'wait', delivered: 'wait', confirmed: 'good', opened: 'good',
  failed: 'bad', refused: 'bad', 'no-answer': 'bad', stale: 'bad',
};

const way = ['authorised', 'delivered', 'confirmed', 'opened', 'relocked'];

// stateOf is the state of a door as the page tells it.
function stateOf(door) {
  if (door.stale) return 'stale';
  if (door.state === 'authorised' && door.mode === 'carried') return 'carried'; // the permit is on the phone
  return door.state || 'rest';
}

// inOrder are the states of the whole way and those that came besides, as they came; what
// was never said stands where it would have been.
function inOrder(steps) {
  const list = [];
  const add = (name) => { if (!list.includes(name)) list.push(name); };
  for (const { state: name } of steps) {
    way.slice(0, Math.max(0, way.indexOf(name))).forEach(add);
    add(name);
  }
  way.forEach(add);
  return list;
}

// write leaves alone what is written already: a screen reader would say it again.
function write(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

async function cut(kind) {
  const told = await ask('POST', `/demo/doors/${state.doors[kind].door_id}/network`, { cut: !state.doors[kind].cut });
  if (!told.ok) refused(`${kind}-answer`, told);
  await follow();
}

function showDoors(doors) {
  const text = JSON.stringify(doors);
  if (text === state.shown) return;
  state.shown = text;
  for (const door of doors) {
    state.doors[door.kind] = door;
    const shown = stateOf(door);
    const mood = moods[shown] ?? 'rest';
    const box = $(`door-${door.kind}`);
    box.dataset.mood = mood;
    write(box.querySelector('.state'), say(`js.doors.state.${shown}`));
    write(box.querySelector('.known'), say(`js.doors.known.${shown}`));
    const at = Object.fromEntries(door.steps.map((s) => [s.state, s.at]));
    box.querySelector('.steps').replaceChildren(...inOrder(door.steps).map((step) =>
      element('li', { className: `${at[step] ? 'done' : ''} ${way.includes(step) ? '' : 'off'}` },
        element('span', { textContent: say(`js.doors.step.${step}`) }), element('time', { textContent: at[step] ? clock(at[step]) : '' }))));
    const cut = $(`${door.kind}-cut`);
    write(cut, door.cut ? say('js.doors.mend') : cut.dataset.cut);
    cut.setAttribute('aria-label', say('js.doors.door_cut', { door: name(door.kind), act: cut.textContent }));
    box.classList.toggle('cut', door.cut);
    const leaf = document.querySelector(`.plan [data-door="${door.kind}"]`);
    leaf.dataset.mood = mood;
    leaf.classList.toggle('open', shown === 'opened');
  }
}

// ---- the events

function showEvents(events) {
  const text = JSON.stringify(events);
  if (text === state.told) return;
  state.told = text;
  $('events-none').hidden = events.length > 0;
  const names = Object.fromEntries(Object.values(state.doors).map((d) => [d.door_id, name(d.kind)]));
  $('events').replaceChildren(...events.slice(0, 12).map((e) => element('li', {},
    element('time', { className: 'soft', textContent: clock(e.at) }),
    element('span', { textContent: `${names[e.door_id] ?? e.door_id}: ${sayIf(`js.doors.event.${e.type}`, e.type.replaceAll('_', ' '))}` }),
    element('span', { className: 'soft', textContent: `…${e.parcel}` }))));
}

async function follow() {
  const told = await ask('GET', '/demo/doors');
  if (!told.ok) return;
  showDoors(told.answer.doors);
  showEvents(told.answer.events);
}

// ---- the parcel

// The building admits one carrier. The service decides that; the page only says so ahead.
const foreign = ({ carrier_id: carrier }) => carrier !== 'swift';

function label({ label: text, dispatch }) {
  const what = text.replace(`, ${dispatch.destination.city}`, '');
  const tail = dispatch.parcel_id.slice(-4);
  return foreign(dispatch) ? say('js.doors.foreign_parcel', { what, carrier: dispatch.carrier_id, tail }) : say('js.doors.parcel', { what, tail });
}

async function choose() {
  const { dispatch, courier } = chosen();
  Object.assign(state, { challenges: {}, permit: null, account: null });
  for (const id of ['gate-answer', 'lobby-answer', 'garage-answer', 'consent-answer', 'hand-answer']) $(id).replaceChildren();
  for (const id of ['lobby-challenge', 'garage-challenge']) $(id).hidden = true;
  $('lobby-carry').disabled = true;
  const back = dispatch.purpose === 'return_pickup';
  const who = { courier: courier.name, carrier: dispatch.carrier_id, unit: dispatch.destination.unit ?? say('js.doors.house') };
  $('who').textContent = say(back ? 'js.doors.collects' : 'js.doors.brings', who) + (foreign(dispatch) ? ` ${say('js.doors.not_admitted')}` : '');
  $('customer-who').textContent = `${dispatch.customer.name}, ${dispatch.destination.unit ?? ''}.`;
  $('hand').textContent = back ? say('js.doors.collect') : $('hand').dataset.hand;
  await readAccount();
}

// readAccount finds the chosen parcel among its customer's.
async function readAccount() {
  const { dispatch } = chosen();
  const list = await askAs(asCustomer(), 'GET', `/v1/customers/${dispatch.customer.id}/handoffs`);
  const listed = list.answer.handoffs?.find((h) => h.parcel_id === dispatch.parcel_id);
  if (!listed) return;
  const looked = await askAs(asCustomer(), 'GET', `/v1/handoffs/${listed.grant_id}`);
  if (!looked.ok || dispatch !== chosen().dispatch) return;
  const account = looked.answer;
  state.account = account;
  $('digits').textContent = account.code ?? '––––––';
  $('digits').parentElement.classList.toggle('off', !account.code);
  $('code-state').textContent = account.code ? say('js.doors.code') : account.code_required ? say('js.doors.no_code', { status: statusName(account.status) }) : say('js.needs_none');
  $('code-until').textContent = account.status === 'active' ? say('js.until', { time: timeAt(account.valid_until, zone()) }) : say('js.status', { status: statusName(account.status) });
  const agreed = account.consents.includes('garage');
  $('consent').disabled = account.status !== 'active';
  $('consent').textContent = agreed ? say('js.doors.revoke') : $('consent').dataset.give;
  $('consent-hint').textContent = account.status !== 'active' ? say('js.doors.over', { status: statusName(account.status) }) : say(agreed ? 'js.doors.may' : 'js.doors.may_not');
}

// another sends one more parcel like the chosen one, for today, and chooses it.
async function another() {
  const like = chosen();
  const dispatch = structuredClone(like.dispatch);
  dispatch.parcel_id = `JJD${digits(12)}`;
  dispatch.delivery_date = dayAt(now(), zone());
  const failed = await assignCourier(like.courier, dispatch);
  if (failed) { refused('hand-answer', failed); return; }
  const sent = await askAs({ scope: 'dispatch', sub: 'warehouse' }, 'POST', '/v1/dispatches', dispatch);
  if (!sent.ok) { refused('hand-answer', sent); return; }
  parcels.push({ ...like, dispatch });
  $('parcel').append(element('option', { textContent: label(parcels.at(-1)) }));
  $('parcel').selectedIndex = parcels.length - 1;
  await choose();
  show('hand-answer', sent, 'good', say('js.doors.on_van'), say('js.doors.chosen', { parcel: dispatch.parcel_id }));
}

// ---- the courier

function position() {
  const { lat, lon } = chosen().dispatch.destination.location;
  return { lat: lat + ($('near').checked ? 0 : 0.018), lon, accuracy_m: 8 }; // degrees of latitude: 2 km
}

async function unlock(kind) {
  const { dispatch } = chosen();
  const body = { parcel_id: dispatch.parcel_id, location: position() };
  if (state.challenges[kind]) body.challenge = state.challenges[kind];
  const told = await askAs(asCourier(), 'POST', `/v1/doors/${state.doors[kind].door_id}/unlock`, body);
  if (!told.ok) {
    refused(`${kind}-answer`, told);
  } else if (kind === 'lobby') {
    state.permit = told.answer.permit;
    $('lobby-carry').disabled = false;
    $('lobby-carry').focus();
    show(`${kind}-answer`, told, '', say('js.doors.phone_has'), say('js.doors.hold', { time: clock(told.answer.expires_at) }));
  } else {
    show(`${kind}-answer`, told, '', say('js.doors.permitted'), say('js.doors.see', { time: clock(told.answer.expires_at) }));
  }
}

async function readChallenge(kind) {
  const told = await ask('POST', `/demo/doors/${state.doors[kind].door_id}/challenge`);
  if (!told.ok) { refused(`${kind}-answer`, told); return; }
  state.challenges[kind] = told.answer.challenge;
  $(`${kind}-challenge`).textContent = say('js.doors.shows', { challenge: told.answer.challenge });
  $(`${kind}-challenge`).hidden = false;
}

async function carry() {
  const told = await ask('POST', `/demo/doors/${state.doors.lobby.door_id}/permit`, { permit: state.permit });
  if (!told.ok) { refused('lobby-answer', told); return; }
  const { result, reason } = told.answer;
  if (result === 'opened') show('lobby-answer', told, '', say('js.doors.answered'), say('js.doors.let_go', { time: clock(now()) }));
  else show('lobby-answer', told, 'bad', say('js.doors.door_says', { result }), reason ? say('js.because', { reason }) : '');
}

// ---- the customer

async function consent() {
  const doors = state.account.consents.includes('garage') ? [] : ['garage'];
  const told = await askAs(asCustomer(), 'POST', `/v1/handoffs/${state.account.grant_id}/consent`, { doors });
  if (!told.ok) refused('consent-answer', told); else $('consent-answer').replaceChildren();
  await readAccount();
}

async function handOver() {
  const { dispatch } = chosen();
  const body = { location: position() };
  if (state.account?.code) body.code = state.account.code;
  const told = await askAs(asCourier(), 'POST', `/v1/parcels/${encodeURIComponent(dispatch.parcel_id)}/verify`, body);
  if (told.ok) show('hand-answer', told, 'good', say(told.answer.status === 'collected' ? 'js.collected' : 'js.handed_over'), say('js.doors.handed_at', { time: clock(told.answer.receipt.at), place: place(zone()) }));
  else refused('hand-answer', told);
  await readAccount();
}

// ---- wiring

const press = (id, where, action) => $(id).addEventListener('click', doing($(id), where, action));
for (const kind of kinds) {
  const where = `${kind}-answer`;
  press(`${kind}-unlock`, where, () => unlock(kind));
  press(`${kind}-cut`, where, () => cut(kind));
  if ($(`${kind}-read`)) press(`${kind}-read`, where, () => readChallenge(kind));
}
press('lobby-carry', 'lobby-answer', carry);
press('consent', 'consent-answer', consent);
press('hand', 'hand-answer', handOver);
press('another', 'hand-answer', another);
$('parcel').addEventListener('change', doing($('parcel'), 'hand-answer', choose));

async function watch() {
  if (document.visibilityState === 'visible') {
    try {
      await follow();
    } catch { /* the next round asks again */ }
  }
  setTimeout(watch, 500);
}

for (const parcel of parcels) $('parcel').append(element('option', { textContent: label(parcel) }));
await readClock();
await follow();
await choose();
watch();
