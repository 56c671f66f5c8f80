// The chat page: puts its parts together, and keeps what is shown in step with the address (#<conversation>).

import { Conversations } from "./chat-api.js";
import { Composer } from "./chat-composer.js";
import { byId } from "./chat-dom.js";
import { opens } from "./chat-door.js";
import { Drawer } from "./chat-drawer.js";
import { List } from "./chat-list.js";
import { Scroll } from "./chat-scroll.js";
import { Problem, Session, pause } from "./chat-session.js";
import { Speech } from "./chat-speech.js";
import { Talk } from "./chat-talk.js";

const TITLE_WAITS_MS = [500, 1000, 2000, 4000, 8000, 16000];  // titles are made in the batch lane, after the answer

const session = new Session({ session: (why) => showWhoIsIn(why), told: () => catchUp() });
const api = new Conversations(session);
const scroll = new Scroll(byId("log"), byId("latest"));
const drawer = new Drawer();
const composer = new Composer({ send: (text) => say(text), stop: () => talk.stop() });
const talk = new Talk(session, api, {
  scroll, speech: new Speech(byId("speech")), sampling: () => composer.sampling,
  on: {
    busy: (busy) => { composer.busy = busy; },
    sent: (id) => attempt(() => show(id)),
    answered: (id) => attempt(() => finish(id)),
    refused: (text) => { composer.text = text; },
    failed: tell,
  },
});
const list = new List(api, {
  open: (id) => { location.hash = id; drawer.close(); composer.focus(); },
  changed: () => { session.tell("changed"); title(); },
  deleted: (id) => { if (id === talk.id) location.hash = ""; },
  failed: tell,
});

function say(text) {
  tell(null);
  talk.send(text);
}

/** A turn was added: a conversation that is new gets its address, and comes to the head of the list. */
async function show(id) {
  if (here() !== id) history.replaceState(null, "", `#${id}`);
  await list.load();
  list.mark(id);
  title();
  session.tell("changed");
}

/** An answer has ended: wait for the title that the model makes of a new conversation. */
async function finish(id) {
  session.tell("changed");
  await list.load();
  title();
  for (const waitMs of TITLE_WAITS_MS) {
    if (list.isTitled(id) || talk.id !== id || !session.signedIn) return;
    await pause(waitMs);
    await list.load();
    title();
  }
}

const here = () => decodeURIComponent(location.hash.slice(1)) || null;

function title() {
  const name = list.title(talk.id);
  byId("title").textContent = name;
  document.title = talk.id ? `${name} · Tandem` : "Tandem";
}

/** Show the conversation of the address. */
async function go() {
  if (!session.signedIn || (here() === talk.id && talk.id)) return;
  tell(null);
  list.mark(here());
  try {
    await talk.open(here());
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    location.hash = "";
    tell(new Problem(404, "That conversation is not there any more."));
  }
  title();
}

/** Another tab, or another device, may have changed something. */
const catchUp = () => attempt(async () => {
  if (!session.signedIn) return;
  await list.load();
  title();
  await talk.reload();
});

/** Do something; what goes wrong with it is told. */
async function attempt(work) {
  try {
    await work();
  } catch (problem) {
    tell(problem);
  }
}

function tell(problem) {
  if (problem && !(problem instanceof Problem)) throw problem;
  byId("notice").textContent = session.signedIn ? problem?.message ?? "" : "";
}

async function showWhoIsIn(why = "") {
  byId("door").hidden = session.signedIn;
  byId("room").hidden = !session.signedIn;
  byId("door-lead").textContent = why || "Sign in to talk with the model.";
  byId("door-problem").textContent = "";
  if (!session.signedIn) {
    talk.clear();
    list.clear();
    drawer.close();
    document.title = "Tandem";
    byId("sign-in").elements.username.focus();
    return;
  }
  byId("who").textContent = session.name;
  composer.focus();
  await attempt(() => Promise.all([list.load().then(title), go()]));
}

opens(byId("sign-in"), ({ username, password }) => session.signIn(username.value, password.value), showWhoIsIn);
opens(byId("use-key"), ({ key }) => session.useKey(key.value.trim()), showWhoIsIn);
byId("sign-out").addEventListener("click", () => attempt(async () => {
  const ended = session.signOut();
  showWhoIsIn();
  await ended;
}));
byId("new").addEventListener("click", () => {
  location.hash = "";
  drawer.close();
  composer.focus();
});
addEventListener("hashchange", () => attempt(go));
document.addEventListener("visibilitychange", () => { if (!document.hidden) catchUp(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || byId("ask").open) return;
  if (drawer.isOpen) drawer.close();
  else if (byId("settings").open) byId("settings").open = false;
  else talk.stop();
});

await session.resume();
await showWhoIsIn();
