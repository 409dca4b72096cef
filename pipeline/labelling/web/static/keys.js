// Names of key presses, such as "1", "Shift+1", "t", "ArrowLeft".

const LETTER = /^\p{L}$/u;
const LATIN = /^[a-z]$/i;

/** Names of a press, the most exact first; none for the browser's own shortcuts and repeats of a held key. */
export function namesOf(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.isComposing) return [];
  const { key, code } = event;
  if (LETTER.test(key)) {
    const letter = LATIN.test(key) ? key : code.replace("Key", ""); // Cyrillic, Greek ...: the letter on the keycap
    return [letter.toLowerCase()];
  }
  if (key === "?" || key === "=") return [key];
  // The top row by its position: shifted, or on a French keyboard, "1" is another character.
  const digit = /^Digit(\d)$/.exec(code)?.[1] ?? (/^\d$/.test(key) ? key : undefined);
  const name = digit ?? key;
  return event.shiftKey ? [`Shift+${name}`, name] : [name];
}

const TYPING = "input:not([type=checkbox], [type=radio]), textarea, select";

/** Whether the focused element uses the press: text being typed, a button pressed, a text scrolled. */
export function isTaken(event) {
  const focused = event.target instanceof Element ? event.target : document.body;
  if (focused.closest(TYPING)) return true;
  if (event.key === "Enter" || event.key === " ") return focused.closest("button, input, summary, a") !== null;
  const scroller = focused.closest("[tabindex='0']");
  return scroller !== null && (event.key === "ArrowUp" || event.key === "ArrowDown");
}

/** The label of a key on the page. */
export function written(name) {
  const signs = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Backspace: "⌫" };
  return name.replace("Shift+", "⇧").replace(/\w+$/, (key) => signs[key] ?? key);
}

/** A unique key for each word: a letter of the word if one is free, else any free letter. */
export function mnemonics(words, taken) {
  const used = new Set(taken);
  return words.map((word) => {
    const letters = [...word.toLowerCase().replace(/[^a-z]/g, ""), ..."abcdefghijklmnopqrstuvwxyz"];
    const letter = letters.find((candidate) => !used.has(candidate));
    if (letter) used.add(letter);
    return letter;
  });
}
