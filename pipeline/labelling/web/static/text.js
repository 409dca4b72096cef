// Shows untrusted text: control, bidi and invisible characters become small boxed names.

const C0 = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split(" ");

const NAMES = {
  0x7f: "DEL", 0x85: "NEL", 0xad: "SHY", 0x61c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM",
  0x2028: "LSEP", 0x2029: "PSEP", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO",
  0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};

// Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are written with them.
const HIDDEN =
  /\r\n|([\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}])\1*/gu;

const MOST_BOXES = 1000;

/** The boxed name of a character: its short name, else its code point. */
export function nameOf(character) {
  const code = character.codePointAt(0);
  return C0[code] ?? NAMES[code] ?? codeOf(code);
}

function codeOf(code) {
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** An element with text in it, never markup. */
export function make(tag, { text, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/**
 * Fill an element with a text, keeping its newlines and spaces.
 *
 * marks: [start, end) in characters of the text, ascending; they become <mark>.
 */
export function show(element, text, marks = []) {
  element.dir = "auto";
  if (!text.trim()) {
    const what = text ? "(only white space)" : "(empty)";
    element.replaceChildren(make("span", { className: "empty", text: what }));
    return;
  }
  const all = document.createDocumentFragment();
  const budget = newBudget();
  let at = 0;
  for (const [start, end] of marks) {
    put(all, text.slice(at, start), budget);
    const mark = make("mark");
    put(mark, text.slice(start, end), budget);
    all.append(mark);
    at = end;
  }
  put(all, text.slice(at), budget);
  element.replaceChildren(all);
}

/** How many boxed characters one text may still get. */
export function newBudget() {
  return { boxes: MOST_BOXES };
}

/** Append a part of a text. */
export function put(parent, text, budget) {
  let plain = "";
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    plain += text.slice(at, match.index);
    at = match.index + match[0].length;
    if (!match[1]) {
      plain += "\n";
      continue;
    }
    const times = match[0].length / match[1].length;
    const name = nameOf(match[1]) + (times > 1 ? ` ×${times}` : "");
    // 100 kB of such characters would be too many elements for the page.
    if (budget.boxes-- <= 0) {
      plain += `[${name}]`;
      continue;
    }
    if (plain) parent.append(plain);
    plain = "";
    parent.append(make("span", { className: "symbol", title: codeOf(match[1].codePointAt(0)), text: name }));
  }
  plain += text.slice(at);
  if (plain) parent.append(plain);
}
