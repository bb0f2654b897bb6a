// Where the phone is. The browser asks the courier once; then the position is watched
// while the page is looked at, so that one is at hand when it is needed.

const fresh = 20_000; // ms: what is younger is sent as it is
const waitFor = 8000; // ms for a new one

export class Position {
  #fix = null;
  #watch = null;
  #waiting = new Set();
  #changed;

  constructor(changed = () => {}) {
    this.#changed = changed;
    this.state = "unasked"; // asking, known, denied, missing
  }

  /** Begins to watch, the first time with the browser's question. */
  start() {
    if (this.#watch !== null || this.state === "denied") return;
    if (!navigator.geolocation) {
      this.#become("missing");
      return;
    }
    if (this.state === "unasked") this.#become("asking");
    this.#watch = navigator.geolocation.watchPosition(
      ({ coords, timestamp }) => {
        this.#fix = { lat: coords.latitude, lon: coords.longitude, accuracy: coords.accuracy, at: timestamp };
        this.#become("known");
      },
      (error) => {
        if (error.code === error.PERMISSION_DENIED) {
          this.stop();
          this.#fix = null;
          this.#become("denied");
        } else if (!this.#fix) {
          this.#become("missing");
        }
      },
      { enableHighAccuracy: true, maximumAge: 10_000, timeout: 20_000 },
    );
  }

  /** Stops watching; what is known grows old. */
  stop() {
    if (this.#watch !== null) navigator.geolocation.clearWatch(this.#watch);
    this.#watch = null;
  }

  /** As the API wants it, with its accuracy and age; undefined where there is none. */
  async take() {
    this.start();
    const old = () => !this.#fix || Date.now() - this.#fix.at > fresh;
    if (old() && (this.state === "asking" || this.state === "known")) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, waitFor);
        this.#waiting.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    if (!this.#fix) return undefined;
    const age = Math.max(0, Math.round((Date.now() - this.#fix.at) / 1000));
    return { lat: this.#fix.lat, lon: this.#fix.lon, accuracy_m: Math.round(this.#fix.accuracy), age_s: age };
  }

  #become(state) {
    this.state = state;
    for (const go of this.#waiting) go();
    this.#waiting.clear();
    this.#changed(state);
  }
}
