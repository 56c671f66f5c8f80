// The calls of the HTTP interface that the page makes, and their answers in the form that it shows.

import { Problem, pause, randomId } from "./chat-session.js";

const TRIES_MS = [1000, 3000];  // a message that may not have arrived is sent again after these times, under the same key
const MOST_IDS = 100;  // that one call may ask for

export class Conversations {
  constructor(session) {
    this.session = session;
  }

  /** Return a page of the conversations, the last used first, and the cursor of the next page. */
  async list(cursor = null) {
    const { data, next_cursor: next } = await this.session.call(`/v1/conversations?limit=50${and("cursor", cursor)}`);
    return { data, next };
  }

  create() {
    return this.session.call("/v1/conversations", { method: "POST", body: {} });
  }

  rename(id, title) {
    return this.session.call(at(id), { method: "PATCH", body: { title } });
  }

  remove(id) {
    return this.session.call(at(id), { method: "DELETE" });
  }

  /** Return the turns: `question`, `answer` (`text` and `reasoning`, null while there is none), `job` (null where it is no
   * longer kept), `part` (where the model ran, and its tokens) and whether it is `live`. */
  async turns(id) {
    const turns = [];
    for (const { role, content, reasoning_content: reasoning, job_id: jobId, ...part } of await this.#messages(id)) {
      if (role === "user") turns.push({ question: content, answer: null, part: null, jobId });
      else Object.assign(turns.at(-1), { answer: { text: content, reasoning }, part });
    }
    const jobs = await this.#jobs(turns.map(({ jobId }) => jobId));
    return turns.map((turn) => {
      const job = jobs.get(turn.jobId) ?? null;
      return { ...turn, job, live: !turn.answer && ["queued", "running"].includes(job?.state) };
    });
  }

  job(id) {
    return this.session.call(`/v1/jobs/${id}`);
  }

  /** Return the model's part of a chat's job, null where there is none to be had. */
  async part(job) {
    const found = await this.#jobs([job.result?.model_job]);
    return [...found.values()][0] ?? null;
  }

  /** Add a message and return the job that answers it. */
  say(id, content, sampling) {
    return this.#submit(`${at(id)}/messages`, { content, ...sampling });
  }

  regenerate(id, sampling) {
    return this.#submit(`${at(id)}/regenerate`, sampling);
  }

  edit(id, content, sampling) {
    return this.#submit(`${at(id)}/edit`, { content, ...sampling });
  }

  cancel(jobId) {
    return this.session.call(`/v1/jobs/${jobId}`, { method: "DELETE" });
  }

  /** Submit; where no answer comes, again, under a key that keeps it from being done twice. */
  async #submit(path, body) {
    const options = { method: "POST", body: { ...body, lane: "interactive" }, headers: { "Idempotency-Key": randomId() } };
    for (const waitMs of TRIES_MS) {
      try {
        return await this.session.call(path, options);
      } catch (problem) {
        if (!(problem instanceof Problem) || ![0, 502, 503, 504].includes(problem.status)) throw problem;
        await pause(waitMs);
      }
    }
    return this.session.call(path, options);
  }

  async #messages(id) {
    const all = [];
    let cursor = null;
    do {
      const page = await this.session.call(`${at(id)}/messages?limit=100${and("cursor", cursor)}`);
      all.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor);
    return all;
  }

  /** Return the jobs that are still kept, by id. */
  async #jobs(some) {
    const found = new Map();
    const ids = some.filter(Boolean);
    for (let at = 0; at < ids.length; at += MOST_IDS) {
      const { data } = await this.session.call(`/v1/jobs?ids=${ids.slice(at, at + MOST_IDS).join(",")}`);
      for (const job of data) found.set(job.id, job);
    }
    return found;
  }
}

const at = (id) => `/v1/conversations/${encodeURIComponent(id)}`;
const and = (name, value) => (value ? `&${name}=${encodeURIComponent(value)}` : "");
