// Where the phone is. The browser asks the courier once; then the position is watched
// while the page is looked at, so that one is at hand when it is needed.
//
// How old a position is, is measured from when it arrived, by the page's own monotonic
// clock. What the browser says of its time cannot be trusted: some count from 2001, some
// in microseconds, and a phone's clock may be wrong.

const fresh = 20_000; // ms: what is younger is sent as it is
const counts = 60_000; // ms: what is older is no proof of a place
const waitFor = 8000; // ms for a new one
const cached = 10_000; // ms: how old the browser may let one be that it gives out

/** A position, and how old it is by now. */
class Fix {
  #arrived;
  #clock;
  #wall;
  #slept = false;

  /**
   * @param {GeolocationPosition} from
   * @param {() => number} clock milliseconds, monotonic
   * @param {() => number} wall milliseconds since 1970
   */
  constructor({ coords, timestamp }, clock, wall) {
    this.lat = coords.latitude;
    this.lon = coords.longitude;
    this.accuracy = Number.isFinite(coords.accuracy) ? Math.min(Math.max(coords.accuracy, 0), 1e6) : 1e6;
    this.timestamp = timestamp;
    // Believed only where it says what it may: else it is as old as the browser may let it be.
    const said = wall() - timestamp;
    const age = said >= 0 && said <= cached ? said : cached;
    this.#clock = clock;
    this.#wall = wall;
    this.#arrived = { clock: clock() - age, wall: wall() - age };
  }

  /** The same fix, given out again. */
  is({ coords, timestamp }) {
    return this.timestamp === timestamp && this.lat === coords.latitude && this.lon === coords.longitude;
  }

  /** The page was not looked at: the phone may have slept, and the monotonic clock with it. */
  slept() {
    this.#slept = true;
  }

  /** Milliseconds. */
  get age() {
    const age = this.#clock() - this.#arrived.clock;
    return this.#slept ? Math.max(age, this.#wall() - this.#arrived.wall) : age;
  }

  /** As the API wants it, with its age of this moment. */
  told() {
    return { lat: this.lat, lon: this.lon, accuracy_m: Math.round(this.accuracy), age_s: Math.min(Math.max(0, Math.round(this.age / 1000)), 1e6) };
  }
}

export class Position {
  #fix = null;
  #watch = null;
  #waiting = new Set();
  #changed;
  #geolocation;
  #clock;
  #wall;
  #timer;

  /**
   * @param {(state: string) => void} [changed] told of every new state
   * @param {object} [world] what tests put in the browser's place
   */
  constructor(changed = () => {}, { geolocation = navigator.geolocation, clock = () => performance.now(), wall = () => Date.now(), timer = (f, ms) => setTimeout(f, ms) } = {}) {
    this.#changed = changed;
    this.#geolocation = geolocation;
    this.#clock = clock;
    this.#wall = wall;
    this.#timer = timer;
    // asking, known; and why there is none: denied, missing (the phone says that it does
    // not know), silent (it does not answer)
    this.state = "unasked";
  }

  /** Begins to watch, the first time with the browser's question. */
  start() {
    if (this.#watch !== null || this.state === "denied") return;
    if (!this.#geolocation) {
      this.#become("missing");
      return;
    }
    if (this.state === "unasked") this.#become("asking");
    this.#watch = this.#geolocation.watchPosition((p) => this.#take(p), (e) => this.#fail(e), { enableHighAccuracy: true, maximumAge: cached, timeout: 20_000 });
  }

  /** Stops watching; what is known grows old. */
  stop() {
    if (this.#watch !== null) this.#geolocation.clearWatch(this.#watch);
    this.#watch = null;
    this.#fix?.slept();
  }

  /**
   * A position that counts; undefined where there is none, and then state says why. A phone
   * that stands still, or whose watch has gone silent, is asked anew.
   */
  async take() {
    this.start();
    if (this.#young(fresh)) return this.#fix;
    if (this.#watch !== null) {
      const before = this.#fix;
      this.#askAnew();
      await this.#until(() => this.#fix !== before || this.state === "denied");
    }
    if (this.#young(counts)) return this.#fix;
    if (this.state === "known" || this.state === "asking") this.#become("silent");
    return undefined;
  }

  #young(most) {
    return this.#fix !== null && this.#fix.age <= most;
  }

  #askAnew() {
    this.#geolocation.clearWatch(this.#watch);
    this.#watch = null;
    this.start();
    this.#geolocation.getCurrentPosition((p) => this.#take(p), (e) => this.#fail(e), { enableHighAccuracy: true, maximumAge: 0, timeout: waitFor });
  }

  #take(position) {
    if (this.state === "denied") return;
    if (!this.#fix?.is(position)) this.#fix = new Fix(position, this.#clock, this.#wall);
    this.#become(this.#young(counts) ? "known" : "silent");
  }

  #fail(error) {
    if (error.code === 1) { // PERMISSION_DENIED
      this.stop();
      this.#fix = null;
      this.#become("denied");
    } else if (!this.#young(counts)) {
      this.#become("missing");
    }
  }

  /** Waits until something is so, for as long as a new position may take. */
  #until(so) {
    return new Promise((resolve) => {
      const end = () => {
        this.#waiting.delete(look);
        resolve();
      };
      const look = () => so() && end();
      this.#waiting.add(look);
      this.#timer(end, waitFor);
    });
  }

  #become(state) {
    this.state = state;
    for (const look of [...this.#waiting]) look();
    this.#changed(state);
  }
}
