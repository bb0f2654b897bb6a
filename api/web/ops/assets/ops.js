// Who opens the board sees the day of their own zone.

const form = document.getElementById("when");
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (form.dataset.chosen === "false" && zone && !new URLSearchParams(location.search).has("day")) {
  location.replace("/ops?" + new URLSearchParams({ zone }));
}
