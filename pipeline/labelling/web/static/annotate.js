// The annotator's page: controls what is shown, and handles keys, buttons and the server's responses.

import { Outbox, Stopwatch, keep, kept } from "./api.js";
import { drawBar, drawProgress, drawTags, markBar } from "./bar.js";
import { Ranking, answersOf } from "./choosing.js";
import * as dialogs from "./dialogs.js";
import { isTaken, namesOf } from "./keys.js";
import { drawing, playNext, restart, useRenderer } from "./pictures.js";
import { differ, draw, mark as markCards, nameOf } from "./reading.js";
import { banner, fetched, focusOn, hideBanner, inState, say, screen, showConsent, showLost, showRest, turnTo } from "./screens.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 5000;
// Input within this time of showing an item is ignored: a double click, or a bouncing key.
const SETTLE_MS = 300;
const DRAFT = `rlhf-draft:${location.pathname}`;
const DIFF = "rlhf-diff";
const KEYS_OFF = "rlhf-keys-off";
const inBrowser = () => localStorage;

let project; // the response of api/state
let item = null; // the item on the page
let draft; // the unfinished answer, kept over a reload
let ranking; // of the item, where completions are ranked
let number = 0; // of the item: this person's answers plus one
let canUndo = false;
let busy = false; // an answer is being sent
let shownAt = 0;
let pollTimer = 0;
let diffText = "";
let tagKeys = [];
let bindings = []; // active keys: {keys, label, run(name)}
const watch = new Stopwatch();
const outbox = new Outbox(`rlhf-outbox:${location.pathname}`, { answered, refused, stuck, moving: hideBanner });

// From the server to the page

async function start() {
  turnTo("loading");
  try {
    project = await fetched("api/state");
    await useRenderer(project.renderer);
    setUp();
    if (project.consent.needed) return askConsent();
    await outbox.send();
    if (inState("loading")) await load();
  } catch (problem) {
    lost(problem);
  }
}

async function load(message, seen) {
  try {
    apply(await fetched("api/next"), message, seen);
  } catch (problem) {
    await barred(problem);
  }
}

/** Handle a 403: ask again if the consent text is new; else, as for any other problem, end the page. */
async function barred(problem) {
  try {
    if (problem.status === 403) project = await fetched("api/state");
    if (problem.status === 403 && project.consent.needed) return askConsent();
    lost(problem);
  } catch (another) {
    lost(another);
  }
}

function lost(problem) {
  item = null;
  bindings = [];
  showLost(problem);
  if (problem.status === undefined) throw problem; // a bug in these scripts: for the console
}

function setUp() {
  $("title").textContent = document.title = project.title;
  $("guidelines-button").hidden = !project.guidelines;
  $("tags").hidden = !project.tags.length || !project.ask.includes("tags");
  $("note-label").hidden = !project.ask.includes("note");
  $("extras").hidden = $("tags").hidden && $("note-label").hidden;
  $("edit").hidden = !project.ask.includes("edit");
  tagKeys = $("tags").hidden ? [] : drawTags(project.tags, toggleTag);
}

function askConsent() {
  item = null;
  busy = false;
  showConsent(project.consent);
  bind();
}

function agree() {
  if (busy) return;
  busy = true;
  const { version, sha256 } = project.consent;
  outbox.add({ type: "consent", version, sha256 }, { first: true });
}

function poll() {
  if (document.visibilityState === "visible" && !busy) load();
  else pollTimer = setTimeout(poll, POLL_MS);
}

/** Show the next item, or why there is none. */
function apply(next, message = "", seen = false) {
  clearTimeout(pollTimer);
  busy = outbox.holds("vote", "skip", "undo");
  canUndo = next.can_undo;
  number = next.progress.answered + 1;
  drawProgress(next.progress);
  const news = next.item !== null || !inState(next.why);
  item = next.item;
  if (!item) restart();
  const heading = item ? showItem() : showRest(next.why, canUndo);
  if (next.why === "waiting") pollTimer = setTimeout(poll, POLL_MS);
  document.title = `${heading} – ${project.title}`;
  bind();
  if (news) say(`${message} ${heading}.`.trim(), seen);
}

function showItem() {
  screen("item", busy ? "sending" : "settling");
  if (project.guidelines) dialogs.guidelines.start(project.guidelines);
  const heading = `Item ${number}`;
  const old = kept(DRAFT);
  draft = old?.item === item.id ? old : blank(item);
  ranking = new Ranking(item.completions.length, item.mode === "ranking" ? draft.choice : "");
  $("item-heading").textContent = heading;
  $("note").value = draft.note;
  drawBar(item, answersOf(item.mode, strengths()), inTwoSteps(), { choose, send: vote, tie, back: takeBack });
  draw(item, rank);
  $("diff").hidden = item.mode !== "pairwise";
  if (wantsDiff()) drawDiff();
  mark();
  watch.start(draft.ms);
  shownAt = performance.now();
  setTimeout(() => inState("settling") && turnTo("ready"), SETTLE_MS);
  focusOn("item-heading");
  return heading;
}

/** The initial answer: empty, or the undone vote. An undone skip marks nothing. */
function blank({ id, undone }) {
  const { choice = "", strength = null, tags = [], note = "" } = undone?.choice ? undone : {};
  return { item: id, choice, strength, tags, note, edits: {}, ms: 0 };
}

function strengths() {
  return project.ask.includes("strength") ? project.strengths : [];
}

/** With reasons, a note or a ranking one key is not enough: Enter sends the answer. */
function inTwoSteps() {
  return item.mode === "ranking" || !$("extras").hidden;
}

// Answering

function ready() {
  return item !== null && !busy && performance.now() - shownAt >= SETTLE_MS;
}

function whole() {
  return item.mode === "ranking" ? ranking.whole : draft.choice !== "";
}

function mark() {
  if (item.mode === "ranking") draft.choice = ranking.choice;
  markBar(item, draft, ranking, { whole: whole(), canUndo });
  markCards(item, draft.edits, ranking);
  let earlier = item.undone ? `You skipped it: ${item.undone.reason}.` : "";
  if (item.undone?.choice) earlier = "Your earlier answer is marked.";
  $("item-note").textContent = `${earlier} ${wantsDiff() ? diffText : ""}`.trim();
}

function choose({ choice, strength = null }) {
  if (!ready()) return;
  Object.assign(draft, { choice, strength });
  mark();
  if (!inTwoSteps()) vote();
}

function vote() {
  if (!ready() || !whole()) return;
  const { choice, strength, tags } = draft;
  const note = $("note").value.trim();
  const more = { ...(strength && { strength }), ...(tags.length && { tags }), ...(note && { note }) };
  send({ type: "vote", item: item.id, choice, ...more, ms: watch.ms });
}

function send(event) {
  busy = true;
  turnTo("sending");
  outbox.add(event);
}

function rank(place) {
  if (!ready()) return;
  ranking.toggle(place);
  mark();
}

function tie() {
  if (!ready()) return;
  ranking.tie();
  mark();
}

function takeBack() {
  if (!ready()) return;
  ranking.takeBack();
  mark();
}

function toggleTag(tag) {
  if (!ready()) return;
  draft.tags = draft.tags.includes(tag) ? draft.tags.filter((other) => other !== tag) : [...draft.tags, tag];
  mark();
}

function skip() {
  if (!ready()) return;
  dialogs.pick("Skip this item: why?", project.skip_reasons, (i) => {
    send({ type: "skip", item: item.id, reason: project.skip_reasons[i], ms: watch.ms });
  });
}

function undo() {
  if (!busy && canUndo) send({ type: "undo" });
}

function flag() {
  if (!item || busy) return;
  dialogs.flag(item.flagged, project.flag_reasons, (choice) => {
    outbox.add({ type: "flag", item: item.id, ...choice });
    item.flagged = choice.on;
    mark();
    say(choice.on ? "Flagged." : "The flag is removed.");
  });
}

function edit() {
  if (!item || busy) return;
  if (item.completions.length === 1) return editor(0);
  const names = item.completions.map((_, place) => `Completion ${nameOf(item, place)}`);
  dialogs.pick("Which one do you want to make better?", names, (place) => editor(place));
}

function editor(place, text = draft.edits[place] ?? item.completions[place], problem = "") {
  const heading = `A better answer than completion ${nameOf(item, place)}`.trim();
  dialogs.edit(item.completions.length > 1 ? heading : "A better answer", text, problem, (better) => {
    draft.edits[place] = better;
    mark();
    outbox.add({ type: "edit", item: item.id, completion: place, text: better });
    say("Your better answer is saved.");
  });
}

function wantsDiff() {
  return item.mode === "pairwise" && kept(DIFF, inBrowser) === true;
}

function drawDiff() {
  diffText = differ(item, wantsDiff());
  $("diff").setAttribute("aria-pressed", wantsDiff());
}

function toggleDiff() {
  if (item?.mode !== "pairwise") return;
  keep(DIFF, wantsDiff() ? undefined : true, inBrowser);
  drawDiff();
  mark();
}

// Responses of the server

const DONE = { vote: "Saved.", skip: "Skipped.", undo: "Undone.", consent: "Thank you." };

function answered(event, answer) {
  if (!(event.type in DONE)) return; // a flag, an edit: the page shows them already, and the item stays
  keep(DRAFT, undefined);
  draft = undefined;
  apply(answer.next, DONE[event.type]);
}

function refused(event, problem) {
  busy = outbox.holds("vote", "skip", "undo");
  if (problem.status === 403) return barred(problem);
  if (event.type === "consent") return start();
  if (event.type in DONE) {
    keepDraft(); // the item may be the same, with an answer to correct
    return load(problem.message, true);
  }
  if (event.item !== item?.id) return say(problem.message, true);
  if (event.type === "flag") item.flagged = !event.on;
  else delete draft.edits[event.completion];
  mark();
  if (event.type === "edit") editor(event.completion, event.text, problem.message);
  else say(problem.message, true);
}

function stuck(problem) {
  banner(`Not saved yet. ${problem.message} Your answer is kept, and will be sent again.`, () => outbox.send());
}

// Keys

function bind() {
  const list = [];
  const add = (keys, label, run) => list.push({ keys, label, run });
  if (item) {
    for (const answer of answersOf(item.mode, strengths())) add(answer.keys, answer.label, () => choose(answer));
    if (item.mode === "ranking") {
      const digits = item.completions.map((_, place) => String(place + 1));
      add(digits, "The next best is this one", (name) => rank(Number(name) - 1));
      add(["="], "The next one is as good as the last", tie);
      add(["Backspace"], "Take back the last", takeBack);
    }
    const pickTag = (letter) => toggleTag(project.tags[tagKeys.indexOf(letter)]);
    if (tagKeys.length) add(tagKeys.filter(Boolean), "Pick a reason", pickTag);
    if (!$("note-label").hidden) add(["n"], "Write a note; Enter or Esc ends it", () => $("note").focus());
    if (inTwoSteps()) add(["Enter"], "Send", vote);
    add(["s"], "Skip, with a reason", skip);
    add(["f"], "Flag, or remove the flag", flag);
    if (!$("edit").hidden) add(["e"], "Edit a completion into a better answer", edit);
    if (drawing()) add(["p"], "Play a tune, or stop it; the next time the next one", playNext);
    if (item.mode === "pairwise") add(["d"], "Mark what differs, or not", toggleDiff);
  }
  if (!inState("consent")) {
    add(["u"], "Undo the last answer", undo);
    if (project.guidelines) add(["g"], "Guidelines", () => dialogs.guidelines.toggle());
    add(["?"], "These keys", () => dialogs.help(bindings));
  }
  bindings = list;
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog:modal")) return;
  if (event.key === "Escape" && dialogs.guidelines.beside && event.target.closest("#guidelines")) {
    dialogs.guidelines.close();
    return;
  }
  if (kept(KEYS_OFF, inBrowser) || isTaken(event)) return;
  for (const name of namesOf(event)) {
    const binding = bindings.find(({ keys }) => keys.includes(name));
    if (!binding) continue;
    event.preventDefault();
    binding.run(name);
    return;
  }
});

$("note").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  event.preventDefault();
  focusOn("item-heading");
});
$("note").addEventListener("input", () => (draft.note = $("note").value));

// Static buttons

const CLICKS = {
  agree,
  skip,
  flag,
  edit,
  undo,
  "rest-undo": undo,
  diff: toggleDiff,
  "guidelines-button": () => dialogs.guidelines.toggle(),
  "help-button": () => dialogs.help(bindings),
};
for (const [id, run] of Object.entries(CLICKS)) $(id).addEventListener("click", (event) => event.detail < 2 && run());

$("keys-on").checked = !kept(KEYS_OFF, inBrowser);
$("keys-on").addEventListener("change", () => keep(KEYS_OFF, $("keys-on").checked ? undefined : true, inBrowser));

function keepDraft() {
  if (item) keep(DRAFT, { ...draft, ms: watch.ms });
}
addEventListener("pagehide", keepDraft);
document.addEventListener("visibilitychange", keepDraft);
// From the browser's back-forward cache: the item shown may be answered by now.
addEventListener("pageshow", (event) => event.persisted && location.reload());

start();
