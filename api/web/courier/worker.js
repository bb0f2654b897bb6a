// The service worker of the courier's page. It keeps the shell and the assets, which are
// the same for everybody, and nothing that is anybody's: what goes to /v1, and the page
// with the stops, passes it by.

const shell = "/courier/shell";
const name = `courier-${kept.language}-${kept.assets[0].split("/")[2]}`; // the hash of all assets
const patience = 5000; // ms that a page may take to begin

addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(name);
    await cache.addAll([shell, ...kept.assets]);
    await skipWaiting();
  })());
});

addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const old of await caches.keys()) if (old.startsWith("courier-") && old !== name) await caches.delete(old);
    await clients.claim();
  })());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  if (request.mode === "navigate" && url.pathname === "/courier") event.respondWith(page(request));
  else if (url.pathname.startsWith("/assets/")) event.respondWith(asset(request));
});

async function page(request) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(reject, patience)));
  try {
    return await Promise.race([fetch(request), late]);
  } catch {
    return (await caches.match(shell)) ?? Response.error();
  } finally {
    clearTimeout(timer);
  }
}

// The path of an asset changes with its content, so that what is kept is never old.
async function asset(request) {
  const found = await caches.match(request, { ignoreVary: true });
  if (found) return found;
  const answer = await fetch(request);
  if (answer.ok && answer.headers.get("Cache-Control")?.includes("immutable")) (await caches.open(name)).put(request, answer.clone());
  return answer;
}
