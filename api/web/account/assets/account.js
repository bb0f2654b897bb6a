// What the account page does with a script: it copies the code, hides it again when it was
// left open, and stays up to date. Without one it is read and used all the same.

import "../frame/live.js";

const hideAfter = 3 * 60 * 1000; // ms
const timers = new Map();

/** Gives each code that is shown a button that copies it. */
function dress(root = document) {
  for (const code of root.querySelectorAll(".code .digits")) {
    if (code.querySelector("[data-added]")) continue;
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "second";
    copy.dataset.added = "";
    copy.textContent = code.parentElement.dataset.copy;
    const said = document.createElement("span");
    said.setAttribute("role", "status");
    said.className = "small soft";
    said.dataset.added = "";
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText([...code.querySelectorAll("b")].map((b) => b.textContent).join(""));
      said.textContent = code.parentElement.dataset.copied;
      setTimeout(() => (said.textContent = ""), 4000);
    });
    if (navigator.clipboard) code.append(copy, said);
  }
}

// A code that was shown and forgotten is hidden again.
document.addEventListener("toggle", (event) => {
  const details = event.target;
  if (!details.matches?.("details.code")) return;
  clearTimeout(timers.get(details.id));
  if (details.open) timers.set(details.id, setTimeout(() => { document.getElementById(details.id)?.removeAttribute("open"); }, hideAfter));
}, true);

document.addEventListener("live", () => dress());
dress();
