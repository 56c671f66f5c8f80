// Who is signed in: keeps the tokens, renews them, and makes calls with them.
//
// Tokens lie in this tab's sessionStorage, and in no other place that outlives it. Tabs of one origin share a session over
// a BroadcastChannel: a refresh token is good for one use, so whichever tab renews tells the others what it got.

const STORED = "tandem.session";
const EARLY_MS = 20_000;  // a token is renewed so long before it ends, or at once when it lives no longer
const ASK_MS = 150;  // that another tab has to say that it is signed in

/** What went wrong, in words for people. `status` is 0 where no answer came. */
export class Problem extends Error {
  constructor(status, message, { title = "", retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { name: "Problem", status, title, retryAfterS });
  }
}

/** `on.session` is called, with a reason, when someone signs in or out, unless this tab was told to; `on.told` with what
 * another tab says. */
export class Session {
  #held = null;
  #renewing = null;
  #resuming = false;
  #others = new BroadcastChannel("tandem");

  constructor(on) {
    this.on = on;
    this.#others.onmessage = ({ data }) => this.#hear(data);
  }

  get signedIn() {
    return this.#held !== null;
  }

  get name() {
    return this.#held?.name ?? "";
  }

  /** Take up the session of this tab, else that of another; true if there is one. */
  async resume() {
    this.#held = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
    if (this.#held) return true;
    this.#resuming = true;
    this.#others.postMessage({ kind: "who" });
    await pause(ASK_MS);
    this.#resuming = false;
    return this.signedIn;
  }

  async signIn(username, password) {
    const tokens = await read(await send("/v1/auth/login", { method: "POST", body: { username, password } }));
    this.#keep({ id: randomId(), name: username, ...held(tokens) });
    this.#share();
  }

  /** Take a key as the credentials, once `path` has been read with it. */
  async useKey(key, path = "/v1/conversations?limit=1") {
    const answer = await send(path, { headers: { Authorization: `Bearer ${key}` } });
    await read(answer);
    this.#keep({ id: randomId(), name: "API key", access: key, refresh: null, endsAt: Infinity });
    this.#share();
  }

  async signOut() {
    const ended = this.#held;
    this.#keep(null);
    this.#others.postMessage({ kind: "out", id: ended?.id });
    if (!ended?.refresh) return;
    await send("/v1/auth/logout", { method: "POST", body: { refresh_token: ended.refresh } });
  }

  /** Tell the other tabs something. */
  tell(what) {
    this.#others.postMessage({ kind: "told", what });
  }

  /** Make a call and return its JSON (null for none). Throws `Problem`. */
  async call(path, options) {
    return read(await this.open(path, options));
  }

  /** Make a call and return the response, whatever its status; an access token that has ended is renewed first. */
  async open(path, options = {}) {
    if (!this.#held) throw new Problem(401, "You are signed out.");
    if (this.#held.refresh && this.#held.endsAt - Date.now() < 0) await this.#renew(this.#held.access);
    const used = this.#held?.access;
    const answer = await this.#sent(path, options);
    if (answer.status !== 401) return answer;
    if (!this.#held?.refresh) return this.#end(answer);
    await this.#renew(used);
    const again = await this.#sent(path, options);
    return again.status === 401 ? this.#end(again) : again;
  }

  #sent(path, options) {
    if (!this.#held) throw new Problem(401, "You are signed out.");
    return send(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${this.#held.access}` } });
  }

  #renew(stale) {
    this.#renewing ??= alone(() => this.#turn(stale)).finally(() => { this.#renewing = null; });
    return this.#renewing;
  }

  async #turn(stale) {
    if (!this.#held || this.#held.access !== stale) return;  // another tab did
    const answer = await send("/v1/auth/refresh", { method: "POST", body: { refresh_token: this.#held.refresh } });
    if (answer.status === 401) await this.#end(answer);
    this.#keep({ ...this.#held, ...held(await read(answer)) });
    this.#share();
    if (navigator.locks) await pause(50);  // the others hear it before they may try
  }

  async #end(answer) {
    const problem = await problemOf(answer);
    this.#keep(null);
    this.on.session("Your session has ended. Please sign in again.");
    throw problem;
  }

  #keep(session) {
    this.#held = session;
    if (session) sessionStorage.setItem(STORED, JSON.stringify(session));
    else sessionStorage.removeItem(STORED);
  }

  #share() {
    this.#others.postMessage({ kind: "session", session: this.#held });
  }

  #hear({ kind, session, id, what }) {
    if (kind === "who" && this.#held) this.#share();
    if (kind === "told" && this.#held) this.on.told(what);
    if (kind === "session" && session && (!this.#held || this.#held.id === session.id)) {
      const joins = !this.#held && !this.#resuming;
      this.#keep(session);
      if (joins) this.on.session("");
    }
    if (kind === "out" && this.#held?.id === id) {
      this.#keep(null);
      this.on.session("You signed out in another tab.");
    }
  }
}

/** Return an id that nobody else has; `crypto.randomUUID` is withheld from pages that came over plain HTTP. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

function held({ access_token: access, refresh_token: refresh, expires_in: lasts }) {
  return { access, refresh, endsAt: Date.now() + lasts * 1000 - Math.min(EARLY_MS, lasts * 250) };
}

/** Do something that one tab at a time may do. Plain HTTP has no locks: there, a moment by chance keeps tabs apart. */
async function alone(work) {
  if (navigator.locks) return navigator.locks.request("tandem.refresh", work);
  await pause(Math.random() * 400);
  return work();
}

async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(path, { method, signal, headers: { ...kind, ...headers }, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached. Check the connection and try again.");
  }
}

async function read(answer) {
  if (!answer.ok) throw await problemOf(answer);
  return answer.status === 204 ? null : answer.json();
}

/** Return the problem that an answer tells (RFC 9457), with what to do about it. */
export async function problemOf(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {  // a proxy's page
    told = { title: `HTTP ${answer.status}` };
  }
  const retryAfterS = Number(answer.headers.get("Retry-After")) || null;
  const where = told.pointer ? ` (${told.pointer})` : "";
  const next = answer.status === 429 ? ` Wait ${retryAfterS ?? "a few"} s, then try again.` : "";
  return new Problem(answer.status, `${sentence(told.detail ?? told.title)}${where}${next}`,
    { title: told.title ?? "", retryAfterS });
}

/** Make a sentence of what a server says. */
export function sentence(text = "Something went wrong") {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
