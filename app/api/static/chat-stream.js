// Follows a job: reads its server-sent events with fetch, because EventSource cannot send an Authorization header.
//
// A connection that breaks, or says nothing for longer than the server's comments allow, is made again from the last event
// on, so no text is lost or told twice.

import { Problem, pause, problemOf } from "./chat-session.js";

const SILENCE_MS = 40_000;  // the server comments every 15 s
const LONGEST_PAUSE_MS = 10_000;
const LAST = new Set(["succeeded", "failed", "cancelled", "expired"]);

/** Yield the job's events, as `{ name, data }`, up to its last; `broken` where the connection is to be made again.
 * Throws `Problem` when there is no going on, and an AbortError when `signal` says so. */
export async function* events(session, jobId, signal) {
  const place = { last: null, retryMs: 1000 };
  for (let tries = 0; ; tries += 1) {
    const connection = new Connection(signal);
    try {
      const headers = place.last ? { "Last-Event-ID": place.last } : {};
      const answer = await session.open(`/v1/jobs/${jobId}/events`, { headers, signal: connection.signal });
      if (answer.status === 204) return;
      if (!answer.ok) throw await problemOf(answer);
      for await (const event of connection.read(answer.body, place)) {
        tries = 0;
        yield event;
        if (LAST.has(event.name)) return;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    } finally {
      connection.close();
    }
    yield { name: "broken", data: {} };
    await pause(Math.min(place.retryMs * 2 ** tries, LONGEST_PAUSE_MS));
    if (signal.aborted) throw new DOMException("left", "AbortError");
  }
}

/** One connection: ends when `outer` says so, or when nothing came for too long. */
class Connection {
  #abort = new AbortController();
  #timer = 0;

  constructor(outer) {
    this.signal = AbortSignal.any([outer, this.#abort.signal]);
    this.#heard();
  }

  async* read(body, place) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#heard();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block, place);
        if (event) yield event;
      }
    }
  }

  close() {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  #heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(), SILENCE_MS);
  }
}

/** Return the event of a block, null where it has none; note its id, and the server's pause, in `place`. */
function parsed(block, place) {
  const fields = { data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") fields.data.push(value);
    else if (name) fields[name] = value;
  }
  if (fields.retry) place.retryMs = Number(fields.retry) || place.retryMs;
  if (fields.id) place.last = fields.id;
  return fields.data.length ? { name: fields.event ?? "message", data: JSON.parse(fields.data.join("\n")) } : null;
}
