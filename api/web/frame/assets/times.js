// Times are written by the server in the zone of the address, as mails are. A reader elsewhere
// is told whose time it is, and finds their own in the title. Times of no place, in UTC, are
// rewritten into the reader's own, in the same words.

const lang = document.documentElement.lang;
const locale = lang === "en" ? "en-GB" : lang; // the order of the server's words
const oneDay = 24 * 60 * 60 * 1000;

/** The service's time: it may be another than the reader's clock says. */
export function serviceNow(root = document) {
  const told = Date.parse(root.documentElement.dataset.now);
  return new Date(Number.isNaN(told) ? Date.now() : told);
}

/** The civil day of t, here, as a number of days. */
function dayOf(t) {
  return Math.round(Date.UTC(t.getFullYear(), t.getMonth(), t.getDate()) / oneDay);
}

/** t in words: "today, 14:02". With until, midnight is 24:00 of the day that it ends. */
export function inWords(t, until, now) {
  const midnight = until && t.getHours() === 0 && t.getMinutes() === 0;
  const away = dayOf(t) - dayOf(now) - (midnight ? 1 : 0);
  let day;
  if (Math.abs(away) <= 1) {
    day = new Intl.RelativeTimeFormat(locale, { numeric: "auto" }).format(away, "day");
  } else {
    const shown = midnight ? new Date(t.getTime() - 1) : t;
    day = shown.toLocaleDateString(locale, { weekday: "long", day: "numeric", month: "long" });
  }
  const hour = midnight ? "24:00" : t.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return `${day}, ${hour}${lang === "de" ? " Uhr" : ""}`;
}

/** Says of the times below root whose zone is not the reader's whose they are. */
export function upgrade(root = document) {
  const now = serviceNow(root);
  for (const el of root.querySelectorAll("time[data-as]")) {
    const t = new Date(el.dateTime);
    if (Number.isNaN(t.getTime()) || -t.getTimezoneOffset() === Number(el.dataset.offset)) continue;
    const own = inWords(t, el.dataset.as === "until", now);
    if (el.dataset.place) {
      el.title = own;
      el.textContent += ` (${el.dataset.place})`;
    } else {
      el.title = el.textContent;
      el.textContent = own;
    }
    delete el.dataset.as;
  }
}

upgrade();
