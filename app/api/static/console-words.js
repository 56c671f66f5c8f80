// How values are written. What is not known is "unknown", and never a number.

export const UNKNOWN = "unknown";

const MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86_400;

/** Write a number with at most two decimals, a very small one with two digits. */
export function number(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const digits = value !== 0 && Math.abs(value) < 0.01 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 2 };
  return value.toLocaleString("en", { ...digits, useGrouping: false });
}

/** Write an amount of money, in full below 100: of small ones each digit counts. */
export function sum(value) {
  if (value === null || value === undefined || Math.abs(value) >= 100) return number(value);
  return value.toLocaleString("en", { maximumSignificantDigits: 4, useGrouping: false });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 2 * MINUTE_S) return `${Math.round(seconds)} s`;
  if (seconds < 2 * HOUR_S) return `${Math.round(seconds / MINUTE_S)} min`;
  return seconds < 2 * DAY_S ? `${Math.round(seconds / HOUR_S)} h` : `${Math.round(seconds / DAY_S)} d`;
}

/** Write a time of the day, with the date where it is not today's. */
export function moment(at) {
  if (!at) return UNKNOWN;
  const time = new Date(at);
  const clock = time.toLocaleTimeString("en-GB");
  return time.toDateString() === new Date().toDateString() ? clock : `${time.toLocaleDateString("en-CA")} ${clock}`;
}

export const counted = (count, noun) => `${count ?? UNKNOWN} ${noun}${count === 1 ? "" : "s"}`;

const UNITS = { cpu_percent: "%", memory_percent: "%", error_percent: "%", response_s: " s", concurrent_users: "",
  "spend-cap": "%" };
const NAMES = { cpu_percent: "CPU", memory_percent: "Memory", error_percent: "Errors", response_s: "Response time",
  concurrent_users: "Concurrent users" };

export const unit = (signal) => UNITS[signal] ?? "";
export const nameOf = (signal) => NAMES[signal] ?? signal;
export const placeOf = (scope) => (scope === "all" ? "all servers" : scope);
