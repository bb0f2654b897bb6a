// A door after a permit for it was given: what the door itself said, and no more.

export const ended = new Set(["relocked", "refused"]);
const often = 500; // ms between two looks while something is to be expected
const rarely = 2000;
const after = 20_000; // ms beyond the permit's end in which a door is still heard

export class Following {
  #call;
  #now;
  #changed;
  #stopped = false;

  constructor({ call, permit, changed = () => {}, now = Date.now }) {
    this.door = permit.door_id;
    this.permit = permit.permit_id;
    this.until = Date.parse(permit.expires_at);
    this.state = "authorised";
    this.heard = true; // whether the last look was answered
    this.#call = call;
    this.#now = now;
    this.#changed = changed;
  }

  /** Looks until the door has ended, or cannot say any more. */
  async run() {
    const begun = this.#now();
    const end = Math.max(this.until, begun) + after;
    while (!this.#stopped && !ended.has(this.state) && this.#now() < end) {
      await this.look();
      if (this.#stopped || ended.has(this.state)) break;
      await new Promise((resolve) => setTimeout(resolve, this.#now() - begun < 30_000 ? often : rarely));
    }
  }

  async look() {
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), 5000);
    try {
      const answer = await this.#call("GET", `/v1/doors/${encodeURIComponent(this.door)}/unlocks/${this.permit}`, undefined, over.signal);
      if (this.#stopped) return;
      this.#become(answer.ok ? answer.json.state : this.state, answer.ok);
    } catch {
      this.#become(this.state, false);
    } finally {
      clearTimeout(timer);
    }
  }

  stop() {
    this.#stopped = true;
  }

  #become(state, heard) {
    if (this.#stopped || (state === this.state && heard === this.heard)) return;
    [this.state, this.heard] = [state, heard];
    this.#changed(this);
  }
}
