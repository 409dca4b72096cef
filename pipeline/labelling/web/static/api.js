// Talking to the server: one request at a time, and no answer is lost. Leaves out what the page shows.

const TIMEOUT_MS = 15_000;
const LONGEST_WAIT_S = 30;

/** What the server would not do, or that it cannot be reached (status 0). */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Worth trying again as it is: no connection, too fast, or the server's own trouble. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function get(path) {
  return request(path, {});
}

async function request(path, options) {
  let answer;
  let data;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
    data = await answer.json();
  } catch {
    if (!answer || answer.ok) throw new Problem(0, "The server cannot be reached.");
    data = {};
  }
  if (!answer.ok) throw new Problem(answer.status, data.error || `The server answered ${answer.status}.`);
  return data;
}

/** Seconds to wait after so many failures in a row. */
export function backoff(failures) {
  return Math.min(2 ** failures, LONGEST_WAIT_S);
}

/** A random idempotency key. crypto.randomUUID is missing on plain http to another machine. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A value of this tab (sessionStorage) or browser (localStorage), forgotten where storage is not allowed. */
export function keep(name, value, storage = () => sessionStorage) {
  try {
    if (value === undefined) storage().removeItem(name);
    else storage().setItem(name, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: what is in memory still holds until the page is closed.
  }
}

export function kept(name, storage = () => sessionStorage) {
  try {
    return JSON.parse(storage().getItem(name)) ?? undefined;
  } catch {
    return undefined;
  }
}

/**
 * Events on their way to the server, in order. They outlive a lost connection and a reload of the page, and
 * keep their idempotency key over every retry, so that the server records each of them once.
 *
 * hooks: answered(event, answer); refused(event, problem): for good, and the event is dropped unless it
 * lacks permission (403); stuck(problem): it will be tried again; moving(): no longer stuck.
 */
export class Outbox {
  constructor(name, hooks) {
    this.name = name;
    this.hooks = hooks;
    this.events = kept(name) ?? [];
    this.sending = false;
    this.failures = 0;
    this.timer = 0;
    addEventListener("online", () => this.send());
  }

  holds(...types) {
    return this.events.some((event) => types.includes(event.type));
  }

  add(event, { first = false } = {}) {
    const whole = { key: newKey(), ...event };
    if (first) this.events.unshift(whole);
    else this.events.push(whole);
    keep(this.name, this.events);
    return this.send();
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.events.length) {
        const event = this.events[0];
        try {
          const body = JSON.stringify(event);
          const headers = { "Content-Type": "application/json" };
          const answer = await request("api/events", { method: "POST", headers, body });
          this.drop(event);
          this.hooks.answered(event, answer);
        } catch (problem) {
          if (!(problem instanceof Problem)) throw problem;
          if (problem.passing) return this.later(problem);
          if (problem.status !== 403) this.drop(event);
          this.moving();
          this.hooks.refused(event, problem);
          if (problem.status === 403) return;
        }
      }
    } finally {
      this.sending = false;
    }
  }

  drop(event) {
    this.events = this.events.filter((other) => other !== event);
    keep(this.name, this.events.length ? this.events : undefined);
    this.moving();
  }

  moving() {
    this.failures = 0;
    this.hooks.moving();
  }

  later(problem) {
    this.timer = setTimeout(() => this.send(), 1000 * backoff(this.failures++));
    this.hooks.stuck(problem);
  }
}

/** Milliseconds that somebody had the page before their eyes. */
export class Stopwatch {
  constructor() {
    this.start();
    document.addEventListener("visibilitychange", () => this.turn());
  }

  start(ms = 0) {
    this.before = ms;
    this.since = visible() ? performance.now() : null;
  }

  get ms() {
    return Math.round(this.before + (this.since === null ? 0 : performance.now() - this.since));
  }

  turn() {
    this.start(this.ms);
  }
}

function visible() {
  return document.visibilityState === "visible";
}
