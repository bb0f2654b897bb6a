// The first page of the demo. It uses the public HTTP contract only, with tokens of
// /demo/token, and shows nothing that an answer did not say.

import { $, ask, askAs, assignCourier, dayAt, digits, doing, element, now, place, readClock, refused, say, sayIf, show, statusName, timeAt } from './common.js';

const samples = JSON.parse($('samples').textContent);

// What the page knows, all of it from answers.
const state = {
  dispatch: null, // as sent
  grant: null,    // the warehouse's answer
  account: null,  // the customer's answer
  courier: null,  // who drives the route
  reader: null,   // as whom the account is read
  assigned: false, // the courier is cleared and on the route
  mails: '',      // ids of the mails on show
};

const asWarehouse = () => ({ scope: 'dispatch', sub: 'warehouse' });
const asCourier = () => ({ scope: 'courier', sub: state.courier.id, carrier_id: state.dispatch.carrier_id });

// ---- time

const zone = () => (state.dispatch ?? state.account ?? chosen().dispatch).destination.time_zone;

function showClock() {
  $('now').textContent = timeAt(now(), zone(), { second: '2-digit' });
  $('now-where').textContent = say('js.at_address', { place: place(zone()) });
}

// ---- 1, the warehouse

const chosen = () => samples[$('sample').selectedIndex];

const returns = ({ dispatch }) => dispatch.purpose === 'return_pickup';

// offer fills the form: a parcel id that is new, and today at the address.
function offer() {
  const to = chosen().dispatch.destination;
  $('parcel').value = `JJD${digits(12)}`;
  $('date').value = dayAt(now(), to.time_zone);
  $('address').textContent = say(returns(chosen()) ? 'js.front.collects' : 'js.front.brings', {
    courier: chosen().courier.name, kind: say(`js.front.kind.${to.kind}`), address: `${to.lines.join(', ')}, ${to.postal_code ?? ''} ${to.city}`,
  });
}

async function send() {
  const sample = chosen();
  const dispatch = structuredClone(sample.dispatch);
  dispatch.parcel_id = $('parcel').value;
  dispatch.delivery_date = $('date').value;
  dispatch.customer.locale = $('locale').value;
  const sent = await askAs(asWarehouse(), 'POST', '/v1/dispatches', dispatch);
  if (!sent.ok) { refused('dispatch-answer', sent); return; }

  const grant = sent.answer;
  const same = state.grant?.grant_id === grant.grant_id;
  Object.assign(state, { dispatch, grant, courier: sample.courier, reader: { scope: 'customer', sub: dispatch.customer.id } });
  const until = timeAt(grant.valid_until, zone());
  show('dispatch-answer', sent, 'good', say(sent.status === 201 ? 'js.front.made' : 'js.front.again'),
    say(grant.code_required ? 'js.front.needs_code' : 'js.front.no_code'),
    say('js.front.window', { from: timeAt(grant.valid_from, zone()), until, place: place(zone()) }),
    ...(grant.rights ?? []).map((right) => say('js.front.right', { act: right.act, target: right.target, proofs: right.proofs.join(', ') })));
  if (!same) begin();
  showClock();
  await readAccount();
  await readMails();
}

// begin clears what was said about the parcel before.
function begin() {
  Object.assign(state, { account: null, assigned: false, mails: '' });
  for (const id of ['verify-answer', 'account-answer', 'clock-answer', 'mails']) $(id).replaceChildren();
  $('mail').hidden = true;
  $('mail-wait').hidden = false;
  $('mail-wait').textContent = say('js.front.waiting');
  $('code').value = '';
  $('hand').textContent = say(returns(state) ? 'js.front.collect' : 'js.front.hand');
  $('forgive').hidden = true;
  for (const id of ['hand', 'jump']) $(id).disabled = false;
  $('wrong').disabled = !state.grant.code_required;
  $('courier-who').textContent = say('js.front.at_door', { courier: state.courier.name, carrier: state.dispatch.carrier_id, parcel: state.dispatch.parcel_id });
}

// ---- 2, the customer

async function readAccount() {
  showAccount(await askAs(state.reader, 'GET', `/v1/handoffs/${state.grant.grant_id}`));
}

// codeState says what became of the code.
function codeState({ status, code_state: state }) {
  if (status === 'expired') return say('js.front.expired');
  if (state === 'none') return say('js.needs_none');
  return sayIf(`js.front.code_state.${state}`, say('js.front.other_state', { status: statusName(status), state }));
}

function showAccount(looked) {
  if (!looked.ok) { refused('account-answer', looked); return; }
  const account = looked.answer;
  state.account = account;
  $('digits').textContent = account.code ?? '––––––';
  $('digits').parentElement.classList.toggle('off', !account.code);
  $('account-state').textContent = codeState(account);
  $('account-until').textContent = account.code
    ? say('js.front.until_left', { time: timeAt(account.valid_until, zone()), n: account.attempts_left }) : say('js.status', { status: statusName(account.status) });
  $('ask').disabled = !account.code;
  $('reissue').disabled = !account.code_required || account.status !== 'active';
  $('reissue').textContent = account.code_required ? say('js.front.new_code_left', { n: account.reissues_left }) : say('js.front.new_code');
  $('history-box').hidden = false;
  $('history').replaceChildren(...account.history.map((entry) =>
    element('li', { textContent: `${timeAt(entry.at, zone(), { second: '2-digit' })}: ${entry.type}${entry.reason ? ` (${entry.reason})` : ''}` })));
  $('account-answer').replaceChildren(element('details', {}, element('summary', { textContent: say('js.raw', { status: looked.status }) }),
    element('pre', { textContent: `${looked.method} ${looked.path}\n\n${looked.status}\n${JSON.stringify(account, null, 2)}` })));
}

async function reissue() {
  const made = await askAs(state.reader, 'POST', `/v1/handoffs/${state.grant.grant_id}/reissue`);
  if (!made.ok) { refused('account-answer', made); return; }
  showAccount(made);
  if (state.dispatch) await readMails();
}

// readMails lists the mails about this parcel and opens the newest when it is new.
async function readMails() {
  const { dispatch } = state;
  const box = await ask('GET', `/demo/mailbox?to=${encodeURIComponent(dispatch.customer.email)}`);
  if (!box.ok || dispatch !== state.dispatch) return;
  const mails = box.answer.filter((m) => m.text.includes(dispatch.parcel_id) || m.html.includes(dispatch.parcel_id));
  const ids = mails.map((m) => m.id).join();
  if (ids === state.mails) return;
  state.mails = ids;
  $('mail-wait').hidden = mails.length > 0;
  $('mails').replaceChildren(...mails.map((m) => {
    const open = element('button', { type: 'button' }, element('strong', { textContent: m.subject }),
      element('time', { className: 'soft', dateTime: m.at, textContent: timeAt(m.at, zone(), { second: '2-digit' }) }));
    open.addEventListener('click', () => openMail(m.id, open));
    return element('li', {}, open);
  }));
  if (mails.length > 0) openMail(mails[0].id, $('mails').querySelector('button'));
}

function openMail(id, button) {
  for (const other of $('mails').querySelectorAll('button')) other.removeAttribute('aria-current');
  button.setAttribute('aria-current', 'true');
  $('mail').src = `/demo/mailbox/${id}`;
  $('mail').hidden = false;
}

// ---- 3, the courier

// assign lets the carrier say, once a parcel, who drives it.
async function assign() {
  if (state.assigned) return null;
  const failed = await assignCourier(state.courier, state.dispatch);
  state.assigned = !failed;
  return failed;
}

async function verify(code) {
  const failed = await assign();
  if (failed) { refused('verify-answer', failed); return; }
  const { parcel_id: parcel, destination } = state.dispatch;
  const body = {};
  if (code) body.code = code;
  if (destination.location) {
    const away = $('near').checked ? 0 : 0.02; // degrees of latitude: 2.2 km
    body.location = { lat: destination.location.lat + away, lon: destination.location.lon, accuracy_m: 10 };
  }
  const told = await askAs(asCourier(), 'POST', `/v1/parcels/${encodeURIComponent(parcel)}/verify`, body);
  $('forgive').hidden = told.answer.code !== 'budget-exhausted';
  if (told.ok) {
    show('verify-answer', told, 'good', say(told.answer.status === 'collected' ? 'js.collected' : 'js.handed_over'),
      say('js.front.receipt', { parcel, time: timeAt(told.answer.receipt.at, zone(), { second: '2-digit' }) }));
    $('hand').textContent = say(returns(state) ? 'js.front.collect_again' : 'js.front.hand_again');
  } else {
    refused('verify-answer', told);
  }
  await readAccount();
  await readMails();
}

// wrongCode is six digits that are not the customer's.
function wrongCode() {
  const right = state.account?.code ?? digits(6);
  return String((Number(right) + 1) % 1e6).padStart(6, '0');
}

async function forgive() {
  const { carrier_id: carrier } = state.dispatch;
  const cleared = await askAs({ scope: 'ops', sub: 'ops' }, 'PUT', `/v1/couriers/${carrier}/${state.courier.id}`, 
    { clear_budget: true, reason: say('js.front.forgive_why') });
  if (!cleared.ok) { refused('verify-answer', cleared); return; }
  show('verify-answer', cleared, 'good', say('js.front.forgiven'));
  $('forgive').hidden = true;
}

// ---- 4, the clock

async function jump() {
  const code = state.account?.code;
  const moved = await ask('POST', '/demo/clock', { now: state.grant.valid_until });
  if (!moved.ok) { refused('clock-answer', moved); return; }
  await readClock();
  showClock();
  await readAccount();
  const { status } = state.account;
  const ranOut = status === 'expired';
  if (ranOut && code) $('code').value = code;
  show('clock-answer', moved, 'wait', say('js.front.day_over', { status: statusName(status) }),
    ranOut && code ? say('js.front.pad_holds') : '',
    ranOut ? '' : say('js.front.send_another'));
  $('jump').disabled = true;
}

// ---- wiring

$('sample').addEventListener('change', () => { offer(); showClock(); });
$('another').addEventListener('click', () => { offer(); $('send').focus(); });
$('dispatch').addEventListener('submit', doing($('send'), 'dispatch-answer', send));
$('reissue').addEventListener('click', doing($('reissue'), 'account-answer', reissue));
$('ask').addEventListener('click', () => { $('code').value = state.account.code; $('hand').focus(); });
$('wrong').addEventListener('click', doing($('wrong'), 'verify-answer', () => {
  $('code').value = wrongCode();
  return verify($('code').value);
}));
$('verify').addEventListener('submit', doing($('hand'), 'verify-answer', () => verify($('code').value)));
$('forgive').addEventListener('click', doing($('forgive'), 'verify-answer', forgive));
$('jump').addEventListener('click', doing($('jump'), 'clock-answer', jump));
document.querySelector('.pad').addEventListener('click', ({ target }) => {
  const { key } = target.dataset;
  const code = $('code');
  if (key === 'clear') code.value = '';
  else if (key === 'back') code.value = code.value.slice(0, -1);
  else if (key) code.value = (code.value + key).slice(0, 6);
});

// Mails arrive when they arrive, and others may move the clock.
async function follow() {
  if (document.visibilityState === 'visible') {
    try {
      await readClock();
      if (state.dispatch) await readMails();
    } catch { /* the next round asks again */ }
  }
  setTimeout(follow, 1500);
}

await readClock();
offer();
showClock();
setInterval(showClock, 1000);
follow();
