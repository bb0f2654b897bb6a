// The page of the sample building's doors. What it shows of a door comes from the event
// log, by way of /demo/doors; what it asks for, it asks of the public HTTP contract.

import { $, ask, askAs, assignCourier, dayAt, digits, doing, element, now, place, readClock, refused, show, timeAt } from './common.js';

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

const names = { gate: 'Gate', lobby: 'Lobby', garage: 'Garage' };

// words say a state: its colour, its name, and what is known by it.
const words = {
  '': ['rest', 'Locked', 'No unlock was reported.'],
  authorised: ['wait', 'Unlocking', 'The permit is on its way. The door has not answered.'],
  carried: ['wait', 'Permit given', 'It is on the phone. The door knows nothing of it yet.'],
  delivered: ['wait', 'Unlocking', 'The door took the permit, and its lock moves.'],
  confirmed: ['good', 'Unlocked', 'The lock confirmed that it let go.'],
  opened: ['good', 'Open', 'The contact says that the door opened.'],
  relocked: ['rest', 'Relocked', 'The lock confirmed that it is locked again.'],
  failed: ['bad', 'Failed', 'The lock did not confirm. How it stands, nobody knows.'],
  refused: ['bad', 'Refused', 'The door turned the permit away.'],
  'no-answer': ['bad', 'No answer', 'Nothing from the door for 15 seconds. What it did is not known.'],
  stale: ['bad', 'No news', 'It was unlocked, and has said nothing since.'],
};

const way = ['authorised', 'delivered', 'confirmed', 'opened', 'relocked'];

function said(door) {
  if (door.stale) return words.stale;
  return words[door.state === 'authorised' && door.mode === 'carried' ? 'carried' : door.state];
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

// say leaves alone what is said already: a screen reader would say it again.
function say(where, text) {
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
    const [mood, word, line] = said(door);
    const box = $(`door-${door.kind}`);
    box.dataset.mood = mood;
    say(box.querySelector('.state'), word);
    say(box.querySelector('.known'), line);
    const at = Object.fromEntries(door.steps.map((s) => [s.state, s.at]));
    box.querySelector('.steps').replaceChildren(...inOrder(door.steps).map((name) =>
      element('li', { className: `${at[name] ? 'done' : ''} ${way.includes(name) ? '' : 'off'}` },
        element('span', { textContent: name.replace('-', ' ') }), element('time', { textContent: at[name] ? clock(at[name]) : '' }))));
    const cut = $(`${door.kind}-cut`);
    say(cut, door.cut ? 'Its network is cut: mend it' : 'Cut its network');
    cut.setAttribute('aria-label', `${names[door.kind]}: ${cut.textContent}`);
    box.classList.toggle('cut', door.cut);
    const leaf = document.querySelector(`.plan [data-door="${door.kind}"]`);
    leaf.dataset.mood = mood;
    leaf.classList.toggle('open', word === 'Open');
  }
}

// ---- the events

const tell = {
  permitted: 'Permit given', access_refused: 'Refused', impossible_journey: 'Refused: too far, too fast',
  door_delivered: 'Took the permit', door_confirmed: 'Lock let go', door_opened: 'Door opened', door_relocked: 'Locked again',
  door_failed: 'Lock failed', door_refused: 'Refused the permit', door_silent: 'No answer',
};

function showEvents(events) {
  const text = JSON.stringify(events);
  if (text === state.told) return;
  state.told = text;
  $('events-none').hidden = events.length > 0;
  const kinds = Object.fromEntries(Object.values(state.doors).map((d) => [d.door_id, names[d.kind]]));
  $('events').replaceChildren(...events.slice(0, 12).map((e) => element('li', {},
    element('time', { className: 'soft', textContent: clock(e.at) }),
    element('span', { textContent: `${kinds[e.door_id] ?? e.door_id}: ${tell[e.type] ?? e.type.replaceAll('_', ' ')}` }),
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
  return `${text.replace(`, ${dispatch.destination.city}`, '')} (${foreign(dispatch) ? `${dispatch.carrier_id}, ` : ''}…${dispatch.parcel_id.slice(-4)})`;
}

async function choose() {
  const { dispatch, courier } = chosen();
  Object.assign(state, { challenges: {}, permit: null, account: null });
  for (const id of ['gate-answer', 'lobby-answer', 'garage-answer', 'consent-answer', 'hand-answer']) $(id).replaceChildren();
  for (const id of ['lobby-challenge', 'garage-challenge']) $(id).hidden = true;
  $('lobby-carry').disabled = true;
  const back = dispatch.purpose === 'return_pickup';
  $('who').textContent = `${courier.name} of ${dispatch.carrier_id} ${back ? 'collects it from' : 'brings it to'} ${dispatch.destination.unit ?? 'the house'}.`
    + (foreign(dispatch) ? ' The building does not admit this carrier.' : '');
  $('customer-who').textContent = `${dispatch.customer.name}, ${dispatch.destination.unit ?? ''}.`;
  $('hand').textContent = back ? 'Collect it' : 'Hand over with the code';
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
  $('code-state').textContent = account.code ? 'The code that the customer has' : account.code_required ? `No code: ${account.status}` : 'This parcel needs no code';
  $('code-until').textContent = account.status === 'active' ? `until ${timeAt(account.valid_until, zone())}` : `Status: ${account.status}`;
  const agreed = account.consents.includes('garage');
  $('consent').disabled = account.status !== 'active';
  $('consent').textContent = agreed ? 'Take the consent back' : 'Let the courier open my garage';
  $('consent-hint').textContent = account.status !== 'active' ? `The parcel is ${account.status}, so it opens no door.` : agreed ? 'The courier may open the garage for this parcel.' : 'Without consent the garage stays shut for this parcel.';
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
  show('hand-answer', sent, 'good', 'It is on the courier’s van', `${dispatch.parcel_id} is chosen now.`);
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
    show(`${kind}-answer`, told, '', 'The phone has a permit', `Once, until ${clock(told.answer.expires_at)}. Hold the phone to the door.`);
  } else {
    show(`${kind}-answer`, told, '', 'The service gave a permit', `Once, until ${clock(told.answer.expires_at)}. What comes of it, the door says above.`);
  }
}

async function readChallenge(kind) {
  const told = await ask('POST', `/demo/doors/${state.doors[kind].door_id}/challenge`);
  if (!told.ok) { refused(`${kind}-answer`, told); return; }
  state.challenges[kind] = told.answer.challenge;
  $(`${kind}-challenge`).textContent = `The door shows ${told.answer.challenge}`;
  $(`${kind}-challenge`).hidden = false;
}

async function carry() {
  const told = await ask('POST', `/demo/doors/${state.doors.lobby.door_id}/permit`, { permit: state.permit });
  if (!told.ok) { refused('lobby-answer', told); return; }
  const { result, reason } = told.answer;
  if (result === 'opened') show('lobby-answer', told, '', 'The door answered the phone', `Its lock let go by ${clock(now())}. What came of it, it says above.`);
  else show('lobby-answer', told, 'bad', `The door says: ${result}`, reason ? `Because: ${reason}.` : '');
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
  if (told.ok) show('hand-answer', told, 'good', told.answer.status === 'collected' ? 'Collected' : 'Handed over', `At ${clock(told.answer.receipt.at)} in ${place(zone())}. Its permits open nothing any more.`);
  else refused('hand-answer', told);
  await readAccount();
}

// ---- wiring

const press = (id, where, action) => $(id).addEventListener('click', doing($(id), where, action));
for (const kind of Object.keys(names)) {
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
$('courier').addEventListener('submit', (event) => event.preventDefault());

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
