// The dialogs: pick from a list, flag, edit, keys, guidelines.

import { keep, kept } from "./api.js";
import { written } from "./keys.js";
import { make, show } from "./text.js";

const $ = (id) => document.getElementById(id);
const ROOM_BESIDE = matchMedia("(min-width: 72rem) and (min-height: 26rem)");
const HIDDEN_GUIDELINES = "rlhf-guidelines-closed";

export function key(name) {
  const sign = make("kbd", { text: written(name) });
  sign.setAttribute("aria-hidden", "true");
  return sign;
}

/** Pick from a list by number key, mouse or Tab; `then` gets the index. */
export function pick(heading, words, then) {
  const dialog = $("pick-dialog");
  $("pick-heading").textContent = heading;
  const choose = (i) => {
    dialog.close();
    then(i);
  };
  const buttons = words.map((word, i) => {
    const button = make("button", { type: "button" }, key(String(i + 1)), make("span", { text: word, dir: "auto" }));
    button.addEventListener("click", () => choose(i));
    return button;
  });
  $("pick-list").replaceChildren(...buttons);
  dialog.onkeydown = (event) => onDigit(event, words.length, choose);
  dialog.showModal();
}

/** Flag an item: `then({on, reason, note})`. */
export function flag(flagged, reasons, then) {
  const dialog = $("flag-dialog");
  const radios = reasons.map((reason, i) => {
    const radio = make("input", { type: "radio", name: "reason", value: reason, required: true });
    return [radio, make("label", { className: "check" }, radio, key(String(i + 1)), make("span", { text: reason }))];
  });
  $("flag-list").replaceChildren(...radios.map(([, label]) => label));
  $("flag-note").value = "";
  $("flag-off").hidden = !flagged;
  $("flag-heading").textContent = flagged ? "This item is flagged" : "Flag this item";
  $("flag-off").onclick = () => {
    dialog.close();
    then({ on: false, reason: "", note: "" });
  };
  dialog.querySelector("form").onsubmit = () => {
    const reason = radios.find(([radio]) => radio.checked)[0].value;
    then({ on: true, reason, note: $("flag-note").value.trim() });
  };
  dialog.onkeydown = (event) => {
    if (event.target !== $("flag-note")) onDigit(event, radios.length, (i) => check(radios[i][0]));
  };
  dialog.showModal();
  radios[0][0].focus();
}

function check(radio) {
  radio.checked = true;
  radio.focus();
}

/** Edit a text: `then(text)`. `problem`: why the last edit was refused. */
export function edit(heading, text, problem, then) {
  const dialog = $("edit-dialog");
  const area = $("edit-text");
  $("edit-heading").textContent = heading;
  $("edit-problem").textContent = problem;
  area.value = text;
  const before = area.value; // with the newlines of a text area
  const form = dialog.querySelector("form");
  form.onsubmit = (event) => {
    if (!area.value.trim()) {
      event.preventDefault();
      $("edit-problem").textContent = "The better answer is empty.";
      area.focus();
    } else if (area.value !== before || problem) then(area.value);
  };
  dialog.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) form.requestSubmit();
  };
  dialog.showModal();
  area.focus();
  area.setSelectionRange(0, 0);
  area.scrollTop = 0;
}

/** Show the keys. `bindings`: {keys, label}. */
export function help(bindings) {
  const rows = bindings.map(({ keys, label }) => {
    const signs = keys.flatMap((name) => [" ", make("kbd", { text: written(name) })]);
    return make("div", {}, make("dt", {}, ...signs), make("dd", { text: label }));
  });
  $("help-keys").replaceChildren(...rows);
  $("help-dialog").showModal();
  $("help-heading").focus();
}

/** The panel of guidelines: beside the items if there is room, else over them. */
export const guidelines = {
  get beside() {
    return $("guidelines").open && !$("guidelines").matches(":modal");
  },

  /** Open beside the items, unless closed by hand before; never open over them. */
  start(text) {
    if (this.started) return;
    this.started = true;
    show($("guidelines-text"), text);
    if (ROOM_BESIDE.matches && !kept(HIDDEN_GUIDELINES, () => localStorage)) this.open();
    ROOM_BESIDE.addEventListener("change", () => {
      if ($("guidelines").open) $("guidelines").close();
    });
    $("guidelines").addEventListener("close", () => {
      document.body.classList.remove("with-guidelines");
      $("guidelines-button").setAttribute("aria-expanded", "false");
    });
  },

  open() {
    const dialog = $("guidelines");
    if (ROOM_BESIDE.matches) {
      const focused = document.activeElement;
      dialog.show();
      focused?.focus({ preventScroll: true });
      document.body.classList.add("with-guidelines");
      keep(HIDDEN_GUIDELINES, undefined, () => localStorage);
    } else dialog.showModal();
    $("guidelines-button").setAttribute("aria-expanded", "true");
  },

  close() {
    if (this.beside) keep(HIDDEN_GUIDELINES, true, () => localStorage);
    $("guidelines").close();
  },

  /** Open or close by hand; the text takes the focus, so that it can be scrolled by key. */
  toggle() {
    if ($("guidelines").open) return this.close();
    this.open();
    $("guidelines-text").focus();
  },
};

function onDigit(event, n, then) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const digit = Number(/^Digit(\d)$/.exec(event.code)?.[1] ?? event.key);
  if (digit >= 1 && digit <= n) {
    event.preventDefault();
    then(digit - 1);
  }
}

for (const button of document.querySelectorAll("dialog [data-close]")) {
  const dialog = button.closest("dialog");
  button.addEventListener("click", () => (dialog.id === "guidelines" ? guidelines.close() : dialog.close()));
}
for (const dialog of document.querySelectorAll("dialog:not(.large)")) {
  dialog.addEventListener("click", (event) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const inside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (event.target === dialog && !inside) dialog.close();
  });
}
