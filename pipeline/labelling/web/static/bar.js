// Draws the answer buttons and the state of the answer.

import { key } from "./dialogs.js";
import { mnemonics } from "./keys.js";
import { make } from "./text.js";

const $ = (id) => document.getElementById(id);
const RESERVED = ["t", "b", "s", "u", "f", "e", "d", "g", "n", "p"];

/** Draw the answer buttons. `on`: {choose(answer), send, tie, back}; `send` completes an answer in two steps. */
export function drawBar(item, answers, inTwoSteps, on) {
  const buttons = answers.map((answer) => {
    const words = make("span", { text: answer.label });
    if (answer.big) words.prepend(make("b", { text: answer.big }), " ");
    const button = press("choice", answer.keys, () => on.choose(answer), words);
    button.dataset.choice = answer.choice;
    button.dataset.strength = answer.strength ?? "";
    if (answer.wide) button.classList.add("wide");
    if (answer.big) button.querySelector("kbd").remove();
    return button;
  });
  if (item.mode === "ranking") {
    const order = make("output", { id: "order" });
    order.setAttribute("aria-label", "Your ranking");
    const tie = press("choice", ["="], on.tie, make("span", { text: "Tie with the last" }));
    const back = press("choice", ["Backspace"], on.back, make("span", { text: "Take back" }));
    tie.id = "tie-next";
    back.id = "take-back";
    buttons.push(order, tie, back);
  }
  if (inTwoSteps) {
    const send = press("choice send", ["Enter"], on.send, make("span", { text: "Send" }));
    send.id = "send";
    buttons.push(send);
  }
  $("choices").className = `choices ${item.mode} of-${buttons.length}`;
  $("choices").replaceChildren(...buttons);
}

function press(className, keys, run, words) {
  const button = make("button", { type: "button", className }, words, key(keys[0]));
  button.setAttribute("aria-keyshortcuts", keys.join(" "));
  // The second click of a double click would answer the next item.
  button.addEventListener("click", (event) => event.detail < 2 && run());
  return button;
}

/** Draw the reasons; returns the key of each, or undefined. */
export function drawTags(tags, toggle) {
  const letters = mnemonics(tags, RESERVED);
  const chips = tags.map((tag, i) => {
    const chip = make("button", { type: "button", className: "chip" }, make("span", { text: tag, dir: "auto" }));
    if (letters[i]) chip.append(key(letters[i]));
    if (letters[i]) chip.setAttribute("aria-keyshortcuts", letters[i]);
    chip.addEventListener("click", () => toggle(tag));
    chip.dataset.tag = tag;
    return chip;
  });
  $("tag-list").replaceChildren(...chips);
  return letters;
}

/** Show the unfinished answer. */
export function markBar(item, draft, ranking, { whole, canUndo }) {
  for (const button of $("choices").querySelectorAll("[data-choice]")) {
    const { choice, strength } = button.dataset;
    button.setAttribute("aria-pressed", choice === draft.choice && strength === (draft.strength ?? ""));
  }
  for (const chip of $("tag-list").children) {
    chip.setAttribute("aria-pressed", draft.tags.includes(chip.dataset.tag));
  }
  if (item.mode === "ranking") {
    const groups = ranking.groups.map((group) => group.map((place) => place + 1).join(" = "));
    $("order").textContent = groups.join(" > ") + (ranking.tying ? " = …" : "") || "Pick the best first";
    $("tie-next").setAttribute("aria-pressed", ranking.tying);
    $("tie-next").disabled = !ranking.groups.length || ranking.whole;
    $("take-back").disabled = !ranking.groups.length;
  }
  if ($("send")) $("send").disabled = !whole;
  $("flag").setAttribute("aria-pressed", item.flagged);
  $("flag-word").textContent = item.flagged ? "Flagged" : "Flag";
  $("undo").disabled = !canUndo;
}

/** Draw the items done and left, and the time left. */
export function drawProgress({ answered, left, total, seconds_left: seconds }) {
  $("progress-bar").max = Math.max(total, 1);
  $("progress-bar").value = answered;
  const time = seconds === null || !left ? "" : ` · ${duration(seconds)}`;
  $("progress-text").textContent = `${answered} done · ${left} left${time}`;
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return `about ${minutes} min`;
  return `about ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
