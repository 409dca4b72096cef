// What is shown besides an item: the consent, the end, the wait, the banner, and what is said to those who listen.

import { show } from "./text.js";

const $ = (id) => document.getElementById(id);
const SEEN_MS = 8000;
let seenTimer = 0;

/** Show one of consent, item, rest. `state`, on the body, is for the style sheet and for tests. */
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

/** For those who listen to the page; also before the eyes for a while where it is `seen`. */
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

/** Nothing to answer: `why` is "done" or "waiting". Returns the heading. */
export function showRest(why, canUndo) {
  const news = !inState(why);
  screen("rest", why);
  const [heading, text] = {
    done: ["All done, thank you", "There is nothing left for you to answer. You can close this page."],
    waiting: [
      "Waiting for more items",
      "You have answered all there are for now. New ones appear here by themselves.",
    ],
  }[why];
  $("rest-heading").textContent = heading;
  $("rest-text").textContent = text;
  $("rest-undo").hidden = !canUndo;
  if (news) focusOn("rest-heading");
  return heading;
}

/** The end, for now: no permission, or an answer of the server that trying again would not change. */
export function showLost(problem) {
  screen("rest", "lost");
  $("rest-heading").textContent = problem.status === 403 ? "This link no longer works" : "This page cannot go on";
  $("rest-text").textContent = `${problem.message} Reload the page, or ask whoever gave you the link.`;
  $("rest-undo").hidden = true;
  focusOn("rest-heading");
}

/** A trouble that may pass, with a button to try again. Told once, however often it is tried. */
export function banner(text, again) {
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  $("banner-button").onclick = again;
  $("banner").hidden = false;
}

export function hideBanner() {
  $("banner").hidden = true;
  $("banner-text").textContent = "";
}
