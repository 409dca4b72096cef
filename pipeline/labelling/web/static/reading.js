// Draws the prompt with its turns, the completions, and the differences between two.

import { MOST_WORDS, wordDiff } from "./diff.js";
import { key } from "./dialogs.js";
import { drawing, pictured, restart } from "./pictures.js";
import { make, show } from "./text.js";

const $ = (id) => document.getElementById(id);
const promptMore = document.querySelector("#prompt-card .more");
const ROLES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };

/** The name of a completion on the page. */
export function nameOf(item, place) {
  if (item.mode === "pairwise") return "AB"[place];
  return item.mode === "ranking" ? String(place + 1) : "";
}

/** Draw an item. `onPick(place)`: a completion was picked for a ranking. */
export function draw(item, onPick) {
  const many = item.turns.length > 1;
  restart();
  $("prompt").replaceChildren(...item.turns.map(turn));
  if (!item.turns.length) show($("prompt"), "");
  const cards = item.completions.map((text, place) => card(item, text, place, onPick));
  const completions = $("completions");
  completions.className = `completions ${item.mode} of-${cards.length}`;
  completions.replaceChildren(...cards);
  $("prompt").classList.remove("open");
  promptMore.textContent = "Show all";
  $("prompt").classList.toggle("from-end", many);
  measure();
  $("reading").scrollTop = 0;
  $("prompt").scrollTop = many ? $("prompt").scrollHeight : 0; // a conversation is answered at its end
}

function turn({ role, text }) {
  const block = make("div", { className: "turn" });
  if (role) {
    block.append(make("h4", { text: ROLES[role] ?? role }));
    if (role in ROLES) block.classList.add(role);
  }
  const body = make("div", { className: "text" });
  show(body, text);
  block.append(body);
  return block;
}

function card(item, text, place, onPick) {
  const name = nameOf(item, place);
  const heading = make("h3", { text: name || "Completion" });
  if (name) heading.prepend(make("span", { className: "hidden", text: "Completion " }));
  const line = make("div", { className: "line" }, heading);
  if (item.mode === "ranking") {
    const button = make("button", { type: "button", className: "rank" });
    button.addEventListener("click", () => onPick(place));
    line.append(button);
  }
  const body = make("div", { className: "text" });
  show(body, text);
  const shown = drawing() ? pictured(item.prompt, text, body, name, place) : body;
  const pane = make("div", { className: "pane" }, shown);
  pane.setAttribute("role", "group");
  pane.setAttribute("aria-label", `Completion ${name}`.trim());
  const more = make("button", { type: "button", className: "more", text: "Show all", hidden: true });
  more.addEventListener("click", () => toggleOpen(more));
  return make("article", { className: "card completion" }, line, pane, more);
}

/** Mark the words that differ, or show the texts plainly. Returns the explanation. */
export function differ(item, on) {
  const bodies = document.querySelectorAll("#completions .text");
  for (const source of document.querySelectorAll("#completions .source")) source.open ||= on;
  const diff = on ? wordDiff(...item.completions) : { a: [], b: [] };
  show(bodies[0], item.completions[0], diff.a);
  show(bodies[1], item.completions[1], diff.b);
  if (!on) return "";
  if (diff.tooLong) return `Differences are not marked: more than ${MOST_WORDS.toLocaleString("en")} words.`;
  return diff.same ? "A and B have the same words." : "Underlined: the words that differ.";
}

/** Show on each card whether it is edited, and in a ranking its rank. */
export function mark(item, edits, ranking) {
  document.querySelectorAll("#completions .card").forEach((element, place) => {
    const line = element.querySelector(".line");
    line.querySelector(".edited")?.remove();
    if (place in edits) line.querySelector("h3").after(make("span", { className: "edited", text: "edited" }));
    const button = line.querySelector(".rank");
    if (!button) return;
    const rank = ranking.rankOf(place);
    const tied = rank && ranking.groups[rank - 1].length > 1;
    element.classList.toggle("ranked", rank > 0);
    button.setAttribute("aria-pressed", String(rank > 0));
    button.setAttribute("aria-keyshortcuts", String(place + 1));
    const label = make("span", { text: rank ? `Rank ${rank}${tied ? " (tie)" : ""}` : "Rank next" });
    label.prepend(make("span", { className: "hidden", text: `Completion ${place + 1}: ` }));
    button.replaceChildren(label, key(String(place + 1)));
  });
}

/** Put panes that scroll in the Tab order, and give truncated ones a button that opens them. */
export function measure() {
  for (const pane of document.querySelectorAll(".pane")) {
    const more = pane.parentElement.querySelector(".more");
    const open = pane.classList.contains("open");
    const cut = pane.scrollHeight > pane.clientHeight + 1;
    const scrolls = cut && getComputedStyle(pane).overflowY === "auto";
    pane.classList.toggle("cut", cut && !scrolls);
    more.hidden = scrolls || !(cut || open);
    if (scrolls) pane.tabIndex = 0;
    else pane.removeAttribute("tabindex");
  }
}

function toggleOpen(more) {
  const pane = more.parentElement.querySelector(".pane");
  const open = pane.classList.toggle("open");
  more.textContent = open ? "Show less" : "Show all";
  measure();
  if (!open) more.parentElement.scrollIntoView({ block: "nearest" });
}

promptMore.addEventListener("click", () => toggleOpen(promptMore));
new ResizeObserver(() => measure()).observe($("reading"));
