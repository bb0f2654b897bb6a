// One thing that a courier means to do, and whether it was done. It is sent with one
// attempt_id and word for word the same body until the server has answered, so that
// sending it again is harmless; and nothing is said to be done before. Only the age of the
// position is of each try: it is no part of what is meant, and the server knows that.
//
// It lives in memory alone. After two minutes without an answer it is given up and
// forgotten: whether it was done is then not known, and that is what it says.

export const patience = 120_000; // ms
const oneTry = 10_000; // ms until a try is given up
const pauses = [500, 1000, 2000, 4000]; // ms between tries; the last repeats

/** What an attempt can be. */
export const sending = "sending"; // the first try is under way
export const waiting = "waiting"; // not sent, or not answered: it is tried again
export const done = "done";
export const refused = "refused"; // the server answered that it is not done
export const unknown = "unknown"; // given up without an answer
export const signedOut = "signed-out"; // the server does not know who asks

/** An id for one attempt, which tells nothing. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

export class Attempt {
  #body;
  #call;
  #now;
  #changed;
  #wake = () => {};
  #running;

  /**
   * @param {object} o
   * @param {(method: string, path: string, body: object, signal: AbortSignal) => Promise<{ok: boolean, status: number, json: any, retryAfter: number}>} o.call
   * @param {string} o.path where it is posted to
   * @param {object} o.body what is sent, beside the attempt_id
   * @param {{told: () => object}} [o.where] the position that is sent with it
   * @param {(a: Attempt) => void} [o.changed] told of every new state
   * @param {() => number} [o.now] milliseconds
   */
  constructor({ call, path, body, where, changed = () => {}, now = Date.now }) {
    this.path = path;
    this.state = sending;
    this.tries = 0;
    this.answer = null;
    this.#call = call;
    this.#now = now;
    this.#changed = changed;
    this.begun = now();
    this.where = where;
    this.#body = { ...body, attempt_id: newId(), claimed_at: new Date(this.begun).toISOString().replace(/\.\d+Z$/, "Z") };
  }

  /** Whether the server may still be told. */
  get pending() {
    return this.state === sending || this.state === waiting;
  }

  /** When it is given up. */
  get until() {
    return this.begun + patience;
  }

  /** Milliseconds until it is given up. */
  get left() {
    return Math.max(0, this.until - this.#now());
  }

  /** Sends it until it is answered or given up. Calling it twice runs it once. */
  run() {
    return (this.#running ??= this.#run());
  }

  /** Tries again at once, as when the network is back. */
  wake() {
    this.#wake();
  }

  async #run() {
    while (this.left > 0) {
      this.tries++;
      const pause = await this.#try();
      if (!this.pending) return this;
      this.#become(waiting);
      await this.#sleep(Math.min(Math.max(pause, pauses[Math.min(this.tries, pauses.length) - 1]), this.left));
    }
    this.#become(unknown);
    return this;
  }

  async #try() {
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), Math.min(oneTry, this.left));
    try {
      const answer = await this.#call("POST", this.path, { ...this.#body, location: this.where?.told() }, over.signal);
      if (answer.ok) this.#settle(done, answer);
      else if (answer.status === 401) this.#settle(signedOut, answer);
      else if (final(answer)) this.#settle(refused, answer);
      return answer.retryAfter * 1000;
    } catch {
      return 0;
    } finally {
      clearTimeout(timer);
    }
  }

  #settle(state, answer) {
    this.answer = answer.json;
    this.#become(state);
  }

  #become(state) {
    this.state = state;
    if (!this.pending) this.#body = null;
    this.#changed(this);
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

// Failures of the service or of what lies between are no answer to the question, nor is
// being told to come back, or that the page's token is old, which the page renews.
const passing = new Set(["too-many-requests", "request-timeout", "cross-site"]);

function final(answer) {
  if (answer.status >= 500 || !answer.json?.code) return answer.json?.code === "doors-not-configured";
  return !passing.has(answer.json.code);
}
