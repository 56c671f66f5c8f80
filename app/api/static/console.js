// The console: asks how things stand every two seconds while somebody looks, and shows it.

import * as parts from "./console-parts.js";
import { byId, el } from "./chat-dom.js";
import { opens } from "./chat-door.js";
import { Problem, Session, pause } from "./chat-session.js";
import { show } from "./console-morph.js";
import { moment } from "./console-words.js";

const EVERY_MS = 2000;
const SHOWN_CHANGES = 30, SHOWN_REPORTS = 10;
const LEAD = "Sign in with an operator's account.";

const session = new Session({ session: (why) => showWhoIsIn(why), told: () => {} });
let looking = 0;  // which loop of looks is the one that counts
let known = new Set();  // ids of the alerts that were shown

/** Look again and again, until another loop begins or somebody signs out. */
async function watch() {
  const mine = ++looking;
  let last = null;
  while (mine === looking && session.signedIn) {
    if (!document.hidden) {
      try {
        const found = await look();
        if (mine !== looking) return;
        last = new Date();
        draw(found);
        byId("notice").textContent = "";
        byId("fresh").textContent = `As of ${moment(last)}`;
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (mine !== looking || !session.signedIn) return;
        if (problem.status === 403) return refuse(problem);
        const old = last ? ` What is shown is of ${moment(last)}.` : "";
        byId("notice").textContent = `${problem.message}${old} It is asked again every 2 s.`;
      }
    }
    await pause(EVERY_MS);
  }
}

async function look() {
  const [status, history, reports] = await Promise.all([
    session.call("/v1/status"), session.call(`/v1/routing/history?limit=${SHOWN_CHANGES}`),
    session.call(`/v1/investigations?limit=${SHOWN_REPORTS}`)]);
  return { status, changes: history.data, reports: reports.data };
}

function draw({ status, changes, reports }) {
  const { routing } = status;
  show(byId("standing"), ...parts.standing(routing));
  show(byId("alerts"), parts.alerts(routing));
  show(byId("signals"), parts.signals(routing));
  show(byId("servers"), ...parts.servers(status));
  show(byId("queues"), parts.queues(status));
  show(byId("flow"), ...[parts.flow(status)].flat());
  byId("shadow-section").hidden = !routing.shadow;
  if (routing.shadow) show(byId("shadow"), ...parts.shadow(routing));
  show(byId("reports"), parts.reports(reports));
  show(byId("history"), parts.history(changes));
  byId("board").hidden = false;
  announce(routing.alerts);
}

/** Say new alerts to who does not see them, and in the title to who looks at another tab. */
function announce(open) {
  const fresh = open.filter(({ id }) => !known.has(id));
  known = new Set(open.map(({ id }) => id));
  if (fresh.length) byId("speech").textContent = `Alert: ${fresh.map(({ detail }) => detail).join(". ")}`;
  document.title = `${open.length ? `(${open.length}) ` : ""}Console · Tandem`;
}

/** Show the report that the address names, if it names one. */
async function showReport() {
  const [, id] = /^#investigation\/([\w.-]+)$/.exec(location.hash) ?? [];
  byId("report").hidden = !id;
  if (!id || !session.signedIn) return;
  byId("report-title").textContent = `Investigation ${id}`;
  show(byId("report-body"), el("p", { className: "none" }, "Reading the report…"));
  try {
    const report = await session.call(`/v1/investigations/${id}`);
    show(byId("report-body"), el("pre", { className: "scroll", tabIndex: 0 }, report.text));
  } catch (problem) {
    show(byId("report-body"), el("p", { className: "problem" }, problem.message));
  }
  byId("report").focus();
}

function refuse({ message }) {
  byId("board").hidden = true;
  byId("refused").hidden = false;
  byId("refused-text").textContent = `You are signed in as ${session.name}. ${message}`;
  byId("other").focus();
}

async function showWhoIsIn(why = "") {
  looking += 1;
  byId("door").hidden = session.signedIn;
  byId("refused").hidden = true;
  byId("board").hidden = true;
  byId("door-lead").textContent = why || LEAD;
  byId("door-problem").textContent = "";
  byId("notice").textContent = "";
  known = new Set();
  if (!session.signedIn) {
    document.title = "Console · Tandem";
    byId("sign-in").elements.username.focus();
    return;
  }
  byId("who").textContent = session.name;
  watch();
  await showReport();
}

async function signOut() {
  const ended = session.signOut();
  showWhoIsIn();
  await ended;
}

opens(byId("sign-in"), ({ username, password }) => session.signIn(username.value, password.value), showWhoIsIn);
opens(byId("use-key"), ({ key }) => session.useKey(key.value.trim(), "/v1/status"), showWhoIsIn);
byId("sign-out").addEventListener("click", signOut);
byId("other").addEventListener("click", signOut);
addEventListener("hashchange", showReport);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && session.signedIn && byId("refused").hidden) watch();
});

await session.resume();
await showWhoIsIn();
