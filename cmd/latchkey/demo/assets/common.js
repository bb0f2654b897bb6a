// What the pages of the demo share: asking the public HTTP contract with tokens of
// /demo/token, and showing what was answered.

export const $ = (id) => document.getElementById(id);

// ---- words

const words = JSON.parse($('words').textContent);

// say fills in one of the page's sentences.
export function say(key, values = {}) {
  return words[key].replace(/\{([a-z_]+)\}/g, (whole, name) => values[name] ?? whole);
}

// sayIf is say, or another text where the page has no such sentence.
export const sayIf = (key, other) => (key in words ? say(key) : other);

// count is the sentence for a number of things.
export const count = (key, n) => say(`${key}.${new Intl.PluralRules(document.documentElement.lang).select(n)}`, { n });

export const statusName = (status) => sayIf(`js.statuses.${status}`, status);

// ---- asking

// ask sends JSON and returns everything that a reader may want to see of the exchange.
export async function ask(method, path, body, token) {
  const headers = { Accept: 'application/json' };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await response.text();
  let answer = null;
  try { answer = JSON.parse(text); } catch { answer = { title: say('js.not_json') }; }
  return { method, path, body, status: response.status, ok: response.ok, answer };
}

// askAs asks in a role. Every call gets a fresh token, because a jump of the clock ends
// the old ones.
export async function askAs(role, method, path, body) {
  const token = await ask('POST', '/demo/token', role);
  return token.ok ? ask(method, path, body, token.answer.token) : token;
}

// assignCourier has the carrier clear a courier and give out the route of a parcel. It
// returns the exchange that failed, or null.
export async function assignCourier(courier, { carrier_id: carrier, route_id: route, delivery_date: day }) {
  const asCarrier = { scope: 'carrier', sub: 'dispatcher', carrier_id: carrier };
  const clearedUntil = dayAt(new Date(now().getTime() + 365 * 86400e3), 'UTC');
  const cleared = await askAs(asCarrier, 'PUT', `/v1/couriers/${carrier}/${courier.id}`,
    { name: courier.name, cleared_until: clearedUntil, suspended: false });
  if (!cleared.ok) return cleared;
  const driven = await askAs(asCarrier, 'PUT', `/v1/routes/${carrier}/${route}/${day}`, { courier_id: courier.id });
  return driven.ok ? null : driven;
}

// ---- time

// In English the day stands before the month, as the service writes it.
const locale = document.documentElement.lang === 'en' ? 'en-GB' : document.documentElement.lang;

// The service's clock minus this machine's, in milliseconds.
let skew = 0;

export const now = () => new Date(Date.now() + skew);
export const place = (tz) => tz.split('/').pop().replaceAll('_', ' ');

// dayAt is the civil day of an instant in a zone, as YYYY-MM-DD.
export function dayAt(instant, timeZone) {
  const parts = new Intl.DateTimeFormat('en', { timeZone, calendar: 'gregory', numberingSystem: 'latn', year: 'numeric', month: '2-digit', day: '2-digit' })
    .formatToParts(instant);
  const part = (type) => parts.find((p) => p.type === type).value;
  return `${part('year')}-${part('month')}-${part('day')}`;
}

export const timeAt = (instant, timeZone, options) =>
  new Intl.DateTimeFormat(locale, { timeZone, day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', ...options }).format(new Date(instant));

export async function readClock() {
  const sent = Date.now();
  const clock = await ask('GET', '/demo/clock');
  if (clock.ok) skew = Date.parse(clock.answer.now) - (sent + Date.now()) / 2;
}

// ---- showing

export function element(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in e) e[name] = value; else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

// show says what an exchange came to: a headline in colour, lines, proofs, and the raw
// JSON folded.
export function show(where, exchange, mood, headline, ...lines) {
  const verdict = element('div', { className: `verdict ${mood}` }, element('strong', { textContent: headline }),
    ...lines.filter(Boolean).map((line) => element('p', { textContent: line })));
  const parts = [verdict];
  if (exchange.answer?.proofs) {
    parts.push(element('ul', { className: 'proofs', 'aria-label': say('js.proofs') },
      ...Object.entries(exchange.answer.proofs).map(([proof, result]) =>
        element('li', { className: result, textContent: `${proof}: ${result.replace('-', ' ')}` }))));
  }
  const sent = exchange.body === undefined ? '' : `\n${JSON.stringify(exchange.body, null, 2)}\n`;
  parts.push(element('details', {},
    element('summary', { textContent: say('js.raw', { status: exchange.status }) }),
    element('pre', { textContent: `${exchange.method} ${exchange.path}${sent}\n${exchange.status}\n${JSON.stringify(exchange.answer, null, 2)}` })));
  $(where).replaceChildren(...parts);
}

// refused shows a problem in the service's own words.
export function refused(where, exchange) {
  const problem = exchange.answer;
  const broken = (problem.errors ?? []).map((e) => `${e.location} ${e.message}`);
  const left = problem.attempts_left;
  show(where, exchange, 'bad', say('js.refused', { title: problem.title }), problem.detail,
    problem.reason ? say('js.because', { reason: problem.reason.replaceAll('-', ' ') }) : '',
    left === undefined ? '' : count('js.left', left), ...broken);
}

// ---- doing

export function digits(n) {
  return Array.from(crypto.getRandomValues(new Uint32Array(n)), (r) => r % 10).join('');
}

// doing runs an action with its button held, and shows a failure of the connection.
export function doing(button, where, action) {
  return async (event) => {
    event?.preventDefault();
    if (button.ariaBusy === 'true') return;
    button.ariaBusy = 'true';
    try {
      await action();
    } catch (err) {
      $(where).replaceChildren(element('div', { className: 'verdict bad', textContent: say('js.unreachable', { why: err.message }) }));
    } finally {
      button.ariaBusy = 'false';
    }
  };
}
