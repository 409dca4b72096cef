// The screens other than an item (consent, end, wait), the banner, and messages for screen readers.

import { backoff, get } from "./api.js";
import { show } from "./text.js";

const $ = (id) => document.getElementById(id);
const SEEN_MS = 8000;
let seenTimer = 0;

/** Show one of consent, item, rest. The style sheet and tests read `state` from the body. */
export function screen(id, state) {
  for (const other of ["consent", "item", "rest"]) $(other).hidden = other !== id;
  $("tools").hidden = $("progress").hidden = id === "consent" || state === "lost";
  if (id !== "item") $("diff").hidden = true;
  turnTo(state);
}

export function turnTo(state) {
  document.body.dataset.state = state;
}

export function inState(...states) {
  return states.includes(document.body.dataset.state);
}

export function focusOn(id) {
  $(id).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** A message for screen readers; where `seen`, also visible for a while. */
export function say(text, seen = false) {
  $("said").textContent = text;
  $("said").classList.toggle("seen", seen);
  clearTimeout(seenTimer);
  if (seen) seenTimer = setTimeout(() => $("said").classList.remove("seen"), SEEN_MS);
}

export function showConsent({ text, version, sha256 }) {
  screen("consent", "consent");
  show($("consent-text"), text);
  $("consent-version").textContent = `Version ${version} · fingerprint ${sha256.slice(0, 12)}`;
  focusOn("consent-heading");
}

/** Show that there is nothing to answer: `why` is "done" or "waiting". Returns the heading. */
export function showRest(why, canUndo) {
  const news = !inState(why);
  screen("rest", why);
  const [heading, text] = {
    done: ["All done, thank you", "There is nothing left for you to answer. You can close this page."],
    waiting: [
      "Waiting for more items",
      "You have answered all available items. New ones appear here automatically.",
    ],
  }[why];
  $("rest-heading").textContent = heading;
  $("rest-text").textContent = text;
  $("rest-undo").hidden = !canUndo;
  if (news) focusOn("rest-heading");
  return heading;
}

/** Show a final problem: no permission, or a response that a retry would not change. */
export function showLost(problem) {
  screen("rest", "lost");
  $("rest-heading").textContent = problem.status === 403 ? "This link no longer works" : "This page cannot go on";
  $("rest-text").textContent = `${problem.message} Reload the page, or ask the person who gave you the link.`;
  $("rest-undo").hidden = true;
  focusOn("rest-heading");
}

/** Show a temporary problem with a button to retry. An unchanged text is announced once. */
export function banner(text, again) {
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  $("banner-button").onclick = again;
  $("banner").hidden = false;
}

export function hideBanner() {
  $("banner").hidden = true;
  $("banner-text").textContent = "";
}

/** A GET that retries until the server responds, under a banner. Throws Problem where a retry would not help. */
export async function fetched(path) {
  for (let failures = 0; ; failures++) {
    try {
      const answer = await get(path);
      if (failures) hideBanner();
      return answer;
    } catch (problem) {
      if (!problem.passing) throw problem;
      await new Promise((resolve) => {
        setTimeout(resolve, 1000 * backoff(failures));
        banner(problem.message, resolve);
      });
    }
  }
}
