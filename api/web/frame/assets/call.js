// How a module calls the service's own API: with the session's cookie, which the browser
// sends, and the session's token, which another site does not know.

/**
 * The answer of a call: its status, its JSON, and how many seconds to wait, if it says so.
 * It throws where there was none, or none that is the API's. A signal gives it up.
 */
export async function call(method, path, body, signal) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Latchkey-CSRF"] = document.querySelector("meta[name=csrf]")?.content ?? "";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store", credentials: "same-origin", referrerPolicy: "no-referrer", signal,
  });
  const text = await answer.text();
  return {
    ok: answer.ok, status: answer.status, json: text ? JSON.parse(text) : null,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
  };
}
