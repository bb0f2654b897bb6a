// Several parcels of one stop: how each stands, and which of those that were read are handed over
// now. It is loaded where a stop has them.

import { endsLike } from "./label.js";

/** Shows them. A parcel that was read can be left for later. */
export function showPieces(stop, work, $, say) {
  const busy = work.attempt?.pending ?? false;
  const there = stop.parcels.filter((p) => p.status === "active").length;
  $("pieces-state").textContent = say("js.pieces.state", { n: work.ticked.size, all: there });
  $("pieces-all").hidden = !stop.all_or_nothing;
  const rows = stop.parcels.map((p) => {
    const row = document.createElement("li");
    const read = [...work.ticked.keys()].find((parcel) => endsLike(parcel, p.parcel_last4));
    if (p.status !== "active" || !read) {
      row.textContent = say("js.pieces.row", { tail: p.parcel_last4, status: p.status === "active" ? say("js.pieces.unread") : say(`js.status.${p.status}`) });
      return row;
    }
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: work.ticked.get(read), disabled: busy });
    box.dataset.parcel = read;
    const name = document.createElement("label");
    name.append(box, ` ${say("js.pieces.row", { tail: p.parcel_last4, status: say("js.pieces.read") })}`);
    row.append(name);
    return row;
  });
  $("pieces-list").replaceChildren(...rows);
}

/** Ticks a parcel that was read, or leaves it for later. The one that the request names first is ticked. */
export function tick(work, parcel, on) {
  work.ticked.set(parcel, on);
  work.parcel = [...work.ticked.keys()].find((p) => work.ticked.get(p)) ?? "";
}
