// Shows what texts stand for (a score, a drawing) beside the texts, where the task names a renderer.

import { key } from "./dialogs.js";
import { banner } from "./screens.js";
import { make } from "./text.js";

let renderer = null;
let playing = null; // {stop, place}
let next = 0; // the place whose tune `p` plays next

/** Load the renderer of this name, or none for null. Where it does not come, texts stay texts. */
export async function useRenderer(name) {
  if (!name) return;
  try {
    const module = await import(`./renderers/${name}.js`);
    await module.load();
    renderer = module;
  } catch {
    banner("The pictures did not load: here are the texts.", () => location.reload());
  }
}

/** Whether texts are drawn. */
export function drawing() {
  return renderer !== null;
}

/**
 * The picture of a prompt with its completion, the sound's button, and the text folded away, in an element of its own.
 *
 * `text`: the element that shows the completion as text; it stays open where there is no picture.
 */
export function pictured(prompt, completion, text, name, place) {
  const label = `Picture of ${name ? `completion ${name}` : "the completion"}`;
  const { picture, problem, play } = renderer.render(prompt, completion, label);
  const source = make("details", { className: "source", open: !picture }, make("summary", { text: "Text" }), text);
  const whole = make("div", { className: "pictured" });
  if (picture) whole.append(make("div", { className: "picture" }, picture));
  if (problem) whole.append(make("p", { className: "soft problem-line", text: problem }));
  if (play) whole.append(playButton(play, name, place));
  whole.append(source);
  return whole;
}

function playButton(play, name, place) {
  const words = make("span", { text: "Play" });
  const button = make("button", { type: "button", className: "play" }, words);
  button.setAttribute("aria-label", `Play ${name ? `completion ${name}` : "the completion"}`);
  button.setAttribute("aria-pressed", "false");
  button.dataset.place = place;
  button.append(key("p"));
  button.addEventListener("click", () => {
    const again = playing?.place === place;
    silence();
    if (again) return;
    const stop = play(() => {
      playing = null;
      words.textContent = "Play";
      button.setAttribute("aria-pressed", "false");
    });
    playing = { stop, place };
    next = place + 1;
    words.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
  });
  return button;
}

/** Stop the sound. */
export function silence() {
  playing?.stop();
}

/** A new item: silence, and the first tune is the next. */
export function restart() {
  silence();
  next = 0;
}

/** Stop what plays, else play the next tune of the item: A, then B, then A again. */
export function playNext() {
  if (playing) return silence();
  const buttons = [...document.querySelectorAll("#completions .play")];
  const button = buttons.find(({ dataset }) => Number(dataset.place) >= next) ?? buttons[0];
  button?.click();
}
