// Asks, and reads the answers as they come: lines of JSON.

import { Problem } from "/static/api.js";

/**
 * Ask about a conversation; `hear` gets every line. Ends after the line "over".
 * Throws Problem where the question is refused, fails, or the connection breaks; AbortError after a stop.
 */
export function ask(messages, signal, hear) {
  return send("api/ask", { messages }, signal, hear);
}

/** Ask how the score of an answer came about; throws as `ask`. One at a time: others wait here. */
export function why(body, signal) {
  explained = explained.then(async () => {
    signal.throwIfAborted();
    let last;
    await send("api/why", body, signal, (line) => (last = line));
    return last;
  });
  const own = explained;
  explained = explained.catch(() => {});
  return own;
}

let explained = Promise.resolve();

async function send(path, body, signal, hear) {
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    cache: "no-store",
    signal,
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (problem) {
    throw stopped(problem) ? problem : new Problem(0, "The server cannot be reached.");
  }
  if (!answer.ok) {
    const data = await answer.json().catch(() => ({}));
    throw new Problem(answer.status, data.error || `The server answered ${answer.status}.`);
  }
  for await (const line of lines(answer.body)) {
    if (line.kind === "failed") throw new Problem(500, line.error);
    hear(line);
    if (line.kind === "over") return;
  }
  throw new Problem(0, "The connection broke before it had ended.");
}

export function stopped(problem) {
  return problem?.name === "AbortError";
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (problem) {
      throw stopped(problem) ? problem : new Problem(0, "The connection broke before it had ended.");
    }
    if (part.done) return;
    const whole = (rest + part.value).split("\n");
    rest = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}
