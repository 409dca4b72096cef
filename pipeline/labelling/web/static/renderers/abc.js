// Draws a tune in ABC notation as a score, and plays it. abcjs reads and draws; the sound is this browser's own.

import { make } from "../text.js";

const ABCJS = "/static/vendor/abcjs-basic-min.js";
const MOST_CHARACTERS = 4000;
// What else a header could hold (page widths, fonts, scripts of other programs) is no business of a model's.
const FIELDS = /^[XTCMLKQPRVw]:/;
const NUMBERS = /\d{4}/; // a note of a thousand bars would take the page minutes to draw
const QUARTERS_A_MINUTE = 120;
const SECONDS_AT_MOST = 90;

let abcjs;

/** Load what draws. Throws where the script does not come. */
export async function load() {
  if (abcjs) return;
  await new Promise((resolve, reject) => {
    const script = make("script", { src: ABCJS });
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("abcjs did not load")));
    document.head.append(script);
  });
  abcjs = globalThis.ABCJS;
}

/**
 * The picture of the tune that a prompt and its completion are together: {picture, problem, play}.
 *
 * picture: an element, or null where nothing could be drawn; problem: a sentence, or empty;
 * play(onEnd): starts the sound and returns what stops it; null where there is none.
 */
export function render(prompt, completion, label) {
  const text = prompt + completion;
  const tune = cleaned(text);
  if (text.length > MOST_CHARACTERS || NUMBERS.test(tune)) return broken("This tune is too long to draw.");
  const sheet = make("div");
  let parsed;
  try {
    parsed = withoutInlineStyles(() => abcjs.renderAbc(sheet, tune, { staffwidth: 560, paddingleft: 0, paddingright: 0 }))[0];
  } catch {
    return broken("This tune could not be drawn.");
  }
  const notes = notesOf(parsed);
  const svg = sheet.querySelector("svg");
  if (!svg || !notes.length) return broken("There is no note here to draw.");
  fit(svg, label);
  let problem = parsed.warnings?.length ? "Some of this is not ABC notation: see the text." : "";
  if (tune.match(/^X:/gm)?.length > 1) problem = "There is more than one tune: the first is drawn.";
  return { picture: svg, problem, play: (onEnd) => play(notes, onEnd) };
}

function broken(problem) {
  return { picture: null, problem, play: null };
}

/** The tune without comments, directives (%%), and fields that are not about music. */
function cleaned(text) {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.replace(/%.*/, "").replace(/\[[A-Za-z]:[^\]]*\]/g, ""));
  return lines.filter((line) => line.trim() && (FIELDS.test(line) || !/^[A-Za-z+]:/.test(line))).join("\n");
}

/**
 * Run abcjs, which writes style attributes and a style element; the page's policy refuses both, and says so in the
 * console. As properties styles may be set, and the element (for a note that is dragged) is not needed.
 */
function withoutInlineStyles(run) {
  const { setAttribute } = Element.prototype;
  const { createElementNS } = Document.prototype;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
  Document.prototype.createElementNS = function (namespace, name) {
    return createElementNS.call(this, namespace, name === "style" ? "metadata" : name);
  };
  try {
    return run();
  } finally {
    Element.prototype.setAttribute = setAttribute;
    Document.prototype.createElementNS = createElementNS;
  }
}

/** Make the drawing as wide as its place, and one picture for screen readers. */
function fit(svg, label) {
  const [width, height] = ["width", "height"].map((name) => parseFloat(svg.getAttribute(name)));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  svg.removeAttribute("style");
  svg.querySelectorAll("metadata, title").forEach((element) => element.remove());
  svg.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
  svg.setAttribute("class", "score");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
}

/** [{pitch, start, length}] in semitones (middle C is 60) and seconds. */
function notesOf(parsed) {
  let tracks;
  try {
    tracks = parsed.setUpAudio({ qpm: QUARTERS_A_MINUTE, chordsOff: true }).tracks;
  } catch {
    return [];
  }
  const seconds = (4 * 60) / QUARTERS_A_MINUTE; // of a whole note, the unit of abcjs
  return tracks
    .flat()
    .filter(({ cmd, pitch }) => cmd === "note" && pitch > 0 && pitch < 128)
    .map(({ pitch, start, duration }) => ({ pitch, start: start * seconds, length: duration * seconds }))
    .filter(({ start }) => start < SECONDS_AT_MOST);
}

/** Sound the notes; `onEnd` is called once, at the end or when stopped. Returns a function that stops. */
function play(notes, onEnd) {
  const audio = new AudioContext();
  const out = new GainNode(audio, { gain: 0.25 });
  out.connect(audio.destination);
  const begin = audio.currentTime + 0.05;
  let last;
  for (const { pitch, start, length } of notes) {
    const end = begin + start + Math.min(length, SECONDS_AT_MOST);
    const tone = new OscillatorNode(audio, { type: "triangle", frequency: 440 * 2 ** ((pitch - 69) / 12) });
    const level = new GainNode(audio, { gain: 0 });
    level.gain.setTargetAtTime(1, begin + start, 0.008);
    level.gain.setTargetAtTime(0, end - 0.04, 0.015);
    tone.connect(level).connect(out);
    tone.start(begin + start);
    tone.stop(end + 0.1);
    if (!last || end > last.end) last = { tone, end };
  }
  let over = false;
  const stop = () => {
    if (over) return;
    over = true;
    audio.close();
    onEnd();
  };
  last.tone.addEventListener("ended", stop);
  return stop;
}
