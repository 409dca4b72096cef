// Requests to the server, one at a time, and an outbox that loses no answer.

const TIMEOUT_MS = 15_000;
const LONGEST_WAIT_S = 30;

/** A refused request, or an unreachable server (status 0). */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether a retry may succeed: no connection, too many requests, or a server error. */
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

/** Seconds to wait after this number of consecutive failures. */
export function backoff(failures) {
  return Math.min(2 ** failures, LONGEST_WAIT_S);
}

/** A random idempotency key. crypto.randomUUID is missing on plain http to another machine. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Store a value for this tab (sessionStorage) or browser (localStorage); does nothing where storage is forbidden. */
export function keep(name, value, storage = () => sessionStorage) {
  try {
    if (value === undefined) storage().removeItem(name);
    else storage().setItem(name, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the value in memory lasts until the page is closed.
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
 * A queue of events to send, in order. They survive a lost connection and a reload of the page, and keep their
 * idempotency key over every retry, so that the server records each of them once.
 *
 * hooks: answered(event, answer); refused(event, problem): final, and the event is dropped except on a 403;
 * stuck(problem): a retry follows; moving(): no longer stuck.
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

/** Milliseconds for which the page was visible. */
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
