// The sections of the console, each made of what the server said. All text becomes text nodes.

import { bar } from "./console-bars.js";
import { UNKNOWN, counted, duration, moment, nameOf, number, placeOf, sum, unit } from "./console-words.js";
import { el } from "./chat-dom.js";

const words = (className, ...text) => el("p", { className }, ...text);
const nothing = (text) => words("none", text);
export const reportAddress = (id) => `#investigation/${encodeURIComponent(id)}`;

/** How things stand, in one line: who leads, and whether it acts. */
export function standing({ leader, mode }) {
  const who = leader ? `${leader.worker} leads, for ${duration(leader.for_s)}` : "Nobody leads: no round for 10 s";
  if (mode.paused) {
    return [level("warning", "paused"), ` by ${mode.who || UNKNOWN} since ${moment(mode.at)}: ${mode.why}. ${who}.`];
  }
  if (!leader) return [level("alert", "no leader"), ` ${who}. What is shown is not of now.`];
  return leader.acting ? [level("normal", "acting"), ` ${who}.`]
    : [level("warning", "not acting"), ` ${who}; the setting routing is off, so nothing is moved.`];
}

/** For how long; nothing where it has always been so. */
const lasting = (seconds) => (seconds === null ? "" : ` for ${duration(seconds)}`);

/** A level, by colour and by its word. */
function level(name, text = name) {
  return el("strong", { className: `level ${name ?? "none"}` }, text ?? UNKNOWN);
}

export function alerts({ alerts: open }) {
  if (!open.length) return nothing("None is open.");
  return el("ul", { className: "alerts" }, ...open.map((alert) => el("li", {},
    el("p", {}, level("alert"), ` ${nameOf(alert.name)}, ${placeOf(alert.scope)}`,
      alert.threshold === null ? "" : `: ${amount(alert.value, alert.name)} against ${amount(alert.threshold, alert.name)}`,
      `, since ${moment(alert.opened_at)}`),
    words("detail", alert.detail),
    words("detail", `What is done: ${alert.action}. `,
      alert.investigation ? el("a", { href: reportAddress(alert.investigation) }, "Read the report") : null))));
}

export function signals({ signals: found }) {
  if (!found.length) return nothing("Not known while nobody leads.");
  const scopes = [...new Set(found.map(({ scope }) => scope))];
  return el("div", { className: "scopes" }, ...scopes.map((scope) => el("section", {},
    el("h3", {}, scope === "all" ? "All servers" : scope),
    el("ul", { className: "signals" }, ...found.filter((each) => each.scope === scope).map(signal)))));
}

const amount = (value, signalName) => (value === null ? UNKNOWN : `${number(value)}${unit(signalName)}`);

function signal({ signal: name, value, normal, alert, level: standing, for_s: lasts }) {
  const is = amount(value, name);
  const limits = `normal to ${number(normal)}, alert from ${amount(alert, name)}`;
  return el("li", { title: limits },
    el("span", { className: "name" }, nameOf(name)),
    el("span", { className: value === null ? "value unknown" : "value" }, is),
    bar(value, { normal, alert, level: standing, says: `${is}; ${limits}` }),
    el("span", { className: "stand" }, level(standing, standing ?? UNKNOWN),
      standing && lasts !== null ? ` ${duration(lasts)}` : ""));
}

export function servers({ servers: plan, routing }) {
  return plan.map((server) => {
    const told = routing.servers.find((each) => each.server === server.name);
    const stand = told?.standing ?? null;
    return el("article", { className: "server", "aria-label": server.name },
      el("h3", {}, server.name, " ", level(STANDING[stand], stand ?? UNKNOWN),
        stand ? el("small", {}, lasting(told.for_s)) : null),
      words("detail", `Gateway ${server.gateway}`,
        told?.why.length ? `. In alert: ${told.why.map(nameOf).join(", ")}` : "",
        told?.held.length ? `. Takes nothing new of ${told.held.join(", ")}` : ""),
      el("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": `Workers of ${server.name}` },
        table(["Worker", "Processor", "CPUs", "Busy", "CPU use"],
          server.workers.map((worker) => workerRow(worker, told)))));
  });
}

const STANDING = { open: "normal", saturated: "warning", down: "alert" };

function workerRow({ name, processors, live }, told) {
  const uses = processors.map((label) => told?.processors[label]).filter((value) => value !== undefined);
  const use = uses.length ? Math.max(...uses) : null;
  if (!live) return [name.split("@")[0], processors.join(" "), level("alert", "none lives"), "", ""];
  return [name.split("@")[0], processors.join(" "), live.cpus.join(" "), `${live.busy} of ${live.slots}`,
    use === null ? UNKNOWN : el("span", { className: "use" }, `${number(Math.round(use))}% `,
      bar(use, { most: 100, says: `${Math.round(use)} percent` }))];
}

export function queues({ queues: books, routing }) {
  const heads = ["Service", "Waiting", "Running", "In the cloud", "Oldest", "Ended/s", "Wait ahead"];
  return table(heads, Object.entries(books).map(([name, queue]) => {
    const told = routing.queues.find(({ service }) => service === name);
    return [name, String(queue.waiting), String(queue.running - queue.in_cloud), String(queue.in_cloud + queue.sent),
      queue.waiting ? duration(queue.oldest_s) : "–", number(told?.rate ?? null), duration(told?.wait_s ?? null)];
  }));
}

/** What leaves for the cloud, and what that costs; what is refused, and how far home has grown. */
export function flow({ routing, counts }) {
  const { flow: leaves, breaker, spend, shed, scale } = routing;
  const acting = routing.leader?.acting ?? false;
  if (!leaves) return nothing("Not known while nobody leads.");
  return [
    words("reason", acting ? "" : "Would, if it were acting: ", leaves.reason),
    breaker ? null : nothing("There is no cloud."),
    el("dl", {}, ...(breaker ? [...away(leaves, counts, acting), ...fact("Breaker", level(BREAKER[breaker.state], breaker.state),
      lasting(breaker.for_s), breaker.tried_in_s === null ? "" : `, tried again in ${duration(breaker.tried_in_s)}`)] : []),
      ...(spend ? [...cap("Spent this hour", spend.money_hour, spend.money_cap, sum),
        ...cap("Sent this minute", spend.jobs_minute, spend.jobs_cap)] : []),
      ...(shed ? fact("Refused lanes", shed.lanes.length ? level("alert", shed.lanes.join(", ")) : "none",
        shed.lanes.length ? ` ${shed.why}` : "") : []),
      ...(scale ? fact(acting ? "Pools at home" : "Pools at home would be", scale.grown ? "at their largest" : "as they started") : []),
      ...(scale && scale.cloud_workers !== null ? fact(acting ? "Cloud workers wanted" : "Cloud workers that would be wanted", String(scale.cloud_workers)) : []))];
}

function away(leaves, counts, acting) {
  return [
    ...fact(`Share of the excess that ${acting ? "leaves" : "would leave"}`,
      leaves.away ? level("warning", "all jobs of the model") : `${number(100 * leaves.share)}%`),
    ...fact("In this round", `${counted(leaves.sending, "job")} ${acting ? "" : "would be "}sent, ${leaves.recalling} recalled`),
    ...fact("Sent, not begun", number(leaves.sent)),
    ...fact("Running in the cloud", number(leaves.running)),
    ...fact("Came home", number(counts.came_home ?? 0)),
    ...fact("Cloud workers", `${number(leaves.workers)} with ${counted(leaves.slots, "slot")}`),
    ...fact("MNS", leaves.reachable === null ? UNKNOWN : level(leaves.reachable ? "normal" : "alert",
      leaves.reachable ? "reached" : "not reached"))];
}

const BREAKER = { closed: "normal", "half-open": "warning", open: "alert" };

function cap(name, value, most, write = number) {
  const full = value !== null && most > 0 && value >= most;
  const near = value !== null && most > 0 && value >= 0.8 * most;
  return fact(name, el("span", {}, `${write(value)} of ${write(most)} `),
    bar(value, { most, level: full ? "alert" : near ? "warning" : "normal",
      says: `${write(value)} of ${write(most)}` }));
}

const fact = (name, ...values) => [el("dt", {}, name), el("dd", {}, ...values)];

/** What the second set of thresholds does otherwise. */
export function shadow({ shadow: second, signals: found, servers: plan, flow: leaves }) {
  const rows = [
    ...found.map(({ signal: name, scope, level: now }) => [
      `${nameOf(name)}, ${placeOf(scope)}`, now ?? UNKNOWN, second.levels[`${name}@${scope}`] ?? UNKNOWN]),
    ...plan.map(({ server, standing: now }) => [server, now ?? UNKNOWN, second.standings[server] ?? UNKNOWN]),
    ["Share", number(leaves?.share ?? null), number(second.share)]];
  const other = rows.filter(([, now, then]) => now !== then);
  return [
    words("reason", `It would have sent jobs in ${second.rounds_sending} of ${counted(second.rounds, "round")} and made `,
      `${counted(second.changes, "change")} `,
      "since it was set."),
    other.length ? table(["Otherwise", "Now", "Shadow"], other) : nothing("All stands as it does now.")];
}

export function reports(found) {
  if (!found.length) return nothing("There is no report; celery -A workers route investigate asks for one.");
  return el("ol", { className: "history" }, ...found.map(({ id, asked_at: at, who, why, parts }) => el("li", {},
    el("time", { dateTime: at }, moment(at)), el("a", { href: reportAddress(id) }, id),
    el("span", { className: "step" }, `asked for by ${who}`),
    el("span", { className: "why" }, why, parts.length ? "" : " Nothing has come yet."))));
}

export function history(changes) {
  if (!changes.length) return nothing("Nothing has changed yet.");
  return el("ol", { className: "history" }, ...changes.map(({ at, what, scope, before, after, why }) => el("li", {},
    el("time", { dateTime: at ?? "" }, moment(at)), el("span", { className: "what" }, `${what} ${scope}`),
    el("span", { className: "step" }, `${before || "–"} → ${after || "–"}`), el("span", { className: "why" }, why))));
}

function table(heads, rows) {
  return el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(([first, ...cells]) => el("tr", {},
      el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, cell))))));
}
