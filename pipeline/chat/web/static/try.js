// The page to try a policy: sends messages, shows both answers as they are written, records what the person says.

import { Outbox, Problem, Stopwatch, keep, kept } from "/static/api.js";
import * as dialogs from "/static/dialogs.js";
import { banner, fetched, hideBanner, say, turnTo } from "/static/screens.js";
import { make, show } from "/static/text.js";
import { ask, stopped } from "./answers.js";
import { Exchange } from "./exchange.js";

const $ = (id) => document.getElementById(id);
const KEPT = `rlhf-try:${location.pathname}`;
const TURNS = `${KEPT}:turns`;
const SPOKEN = 600; // characters of an answer that a screen reader is told

let project; // the response of api/state
let exchanges = [];
let running = null; // the AbortController of the question that is being answered
const watch = new Stopwatch();
const outbox = new Outbox(`rlhf-outbox:${location.pathname}`, { answered, refused, stuck, moving: hideBanner });

// Starting

async function start() {
  try {
    project = await fetched("api/state");
    $("title").textContent = document.title = project.title;
    if (project.consent.needed) return askConsent();
    await outbox.send();
    begin();
  } catch (problem) {
    lost(problem);
  }
}

function screen(id, state) {
  for (const other of ["consent", "talk", "rest"]) $(other).hidden = other !== id;
  $("tools").hidden = id !== "talk";
  turnTo(state);
}

function askConsent() {
  screen("consent", "consent");
  show($("consent-text"), project.consent.text);
  $("consent-version").textContent =
    `Version ${project.consent.version} · fingerprint ${project.consent.sha256.slice(0, 12)}`;
  $("consent-heading").focus();
}

function agree() {
  const { version, sha256 } = project.consent;
  outbox.add({ type: "consent", version, sha256 }, { first: true });
}

function begin() {
  screen("talk", "ready");
  const { refs, temperature, completion_tokens: tokens, notes, blind, system } = project;
  const who = blind ? "Two answers, without names until you choose" : `${refs[1]} beside its base, ${refs[0]}`;
  const turn = system ? ` Every conversation begins with: “${system}”` : "";
  $("about").textContent = `${who}. Temperature ${temperature}, at most ${tokens} tokens.${turn}`;
  $("note").hidden = !notes.length;
  $("note").textContent = notes.join(" ");
  $("turns").checked = kept(TURNS) ?? project.has_template;
  for (const data of kept(KEPT) ?? []) add(data);
  $("message").focus({ preventScroll: true });
}

function lost(problem) {
  screen("rest", "lost");
  $("rest-heading").textContent = problem.status === 403 ? "This link no longer works" : "This page cannot go on";
  $("rest-text").textContent = `${problem.message} Reload the page, or ask the person who gave you the link.`;
  $("rest-heading").focus();
  if (problem.status === undefined) throw problem; // a bug in these scripts: for the console
}

// Asking

function send() {
  const question = $("message").value;
  if (running || !question.trim()) {
    $("problem").textContent = running ? "" : "The message is empty: write something.";
    return;
  }
  $("problem").textContent = "";
  $("message").value = "";
  const answers = [0, 1].map(() => ({ text: "", done: false, score: null, tokens: 0, ended: false, before: 0 }));
  const exchange = add({
    question,
    before: soFar(),
    answers,
    choice: null,
    thumbs: [null, null],
    edits: {},
    goesOn: project.blind ? 0 : 1,
    names: project.names,
    refs: project.refs,
  });
  exchange.element.scrollIntoView({ block: "start" });
  $("heard").replaceChildren();
  run(exchange);
}

/** The conversation up to now: every exchange with the answer from which it goes on. */
function soFar() {
  const last = exchanges.at(-1);
  if (!$("turns").checked || !last) return [];
  const { before, question, answers, edits, goesOn } = last.data;
  const content = edits[goesOn] ?? answers[goesOn].text;
  return [...before, { role: "user", content: question }, { role: "assistant", content }];
}

async function run(exchange) {
  const { data } = exchange;
  running = new AbortController();
  working(true);
  const messages = [...data.before, { role: "user", content: data.question }];
  try {
    await ask(messages, running.signal, (line) => hear(exchange, line));
    save();
    exchange.draw();
    if (exchange === exchanges.at(-1)) exchange.verdict.scrollIntoView({ block: "nearest" });
    watch.start();
    speak(exchange);
  } catch (problem) {
    drop(exchange, problem);
  } finally {
    running = null;
    working(false);
  }
}

function hear(exchange, line) {
  const { data } = exchange;
  const answer = data.answers[line.place];
  if (line.kind === "waits") for (const each of data.answers) each.before = line.before;
  else if (line.kind === "text") answer.text = answer.text.slice(0, line.from) + line.text;
  else if (line.kind === "done") {
    const { text, score, tokens, ended } = line;
    Object.assign(answer, { text, score, tokens, ended, done: true });
  } else if (line.kind === "over") {
    const { exchange: ticket, signature, differs } = line;
    data.ticket = { exchange: ticket, signature, differs };
  }
  exchange.drawSoon();
}

/** What did not become an answer leaves the page; the message goes back to its field. */
function drop(exchange, problem) {
  exchanges = exchanges.filter((other) => other !== exchange);
  exchange.element.remove();
  if (!$("message").value) $("message").value = exchange.data.question;
  $("message").focus({ preventScroll: true });
  if (stopped(problem)) return say("Stopped.");
  if (!(problem instanceof Problem)) throw problem;
  if (problem.status === 403) return location.reload();
  $("problem").textContent = problem.message;
}

/** Both answers whole, once: a screen reader should not read token by token. */
function speak(exchange) {
  const spoken = exchange.data.answers.map(({ text }, place) => {
    const cut = text.length > SPOKEN ? `${text.slice(0, SPOKEN)} …` : text;
    const line = make("p");
    show(line, cut);
    line.prepend(`${exchange.ownerOf(place)}: `);
    return line;
  });
  $("heard").replaceChildren(...spoken);
}

function working(on) {
  $("ask").disabled = on;
  $("stop").hidden = !on;
  turnTo(on ? "answering" : "ready");
}

function add(data) {
  const acts = {
    choose: (choice) => choose(exchange, choice),
    thumb: (place, choice) => thumb(exchange, place, choice),
    edit: (place) => edit(exchange, place),
    goOn: (place) => update(exchange, { goesOn: place }),
  };
  const { blind, explained: explains, attributed: attributes } = project;
  const exchange = new Exchange(data, acts, { blind, turns: () => $("turns").checked, explains, attributes });
  exchanges.push(exchange);
  $("exchanges").append(exchange.element);
  return exchange;
}

function save() {
  keep(KEPT, exchanges.filter(({ over }) => over).map(({ data }) => data));
}

function clear() {
  running?.abort();
  exchanges = [];
  $("exchanges").replaceChildren();
  $("heard").replaceChildren();
  save();
  say("A new conversation.");
  $("message").focus();
}

// Opinions

function update(exchange, changes) {
  Object.assign(exchange.data, changes);
  exchange.draw();
  save();
}

function opinion(exchange, content) {
  const { exchange: ticket, signature } = exchange.data.ticket;
  outbox.add({ ...content, exchange: ticket, signature });
}

function time(exchange) {
  return exchange === exchanges.at(-1) ? watch.ms : 0;
}

function choose(exchange, choice) {
  const { goesOn } = exchange.data;
  update(exchange, { choice, goesOn: ["a", "b"].includes(choice) ? "ab".indexOf(choice) : goesOn });
  opinion(exchange, { type: "better", choice, ms: time(exchange) });
}

function thumb(exchange, place, choice) {
  const thumbs = exchange.data.thumbs.with(place, choice);
  update(exchange, { thumbs });
  opinion(exchange, { type: "thumb", place, choice, ms: time(exchange) });
}

function edit(exchange, place, problem = "") {
  const { answers, edits } = exchange.data;
  dialogs.edit(`Better than ${exchange.ownerOf(place)}`, edits[place] ?? answers[place].text, problem, (text) => {
    update(exchange, { edits: { ...edits, [place]: text }, goesOn: place });
    opinion(exchange, { type: "edit", place, text });
  });
}

// Responses of the server

function of(event) {
  return exchanges.find(({ data }) => data.ticket?.exchange === event.exchange);
}

function answered(event, answer) {
  if (event.type === "consent") return start();
  const exchange = of(event);
  if (exchange && answer.refs) update(exchange, { refs: answer.refs });
  say("Saved.");
}

function refused(event, problem) {
  if (problem.status === 403) return lost(problem);
  if (event.type === "consent") return start();
  const exchange = of(event);
  if (exchange) {
    if (event.type === "better") update(exchange, { choice: null });
    else if (event.type === "thumb") update(exchange, { thumbs: exchange.data.thumbs.with(event.place, null) });
    else {
      const { [event.place]: _, ...edits } = exchange.data.edits;
      update(exchange, { edits });
    }
  }
  say(problem.message, true);
}

function stuck(problem) {
  banner(`Not saved yet. ${problem.message} Your opinion is kept, and will be sent again.`, () => outbox.send());
}

// The controls

$("agree").addEventListener("click", agree);
$("new").addEventListener("click", clear);
$("stop").addEventListener("click", () => running?.abort());
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("turns").addEventListener("change", () => {
  keep(TURNS, $("turns").checked);
  for (const exchange of exchanges) exchange.draw();
});
// From the browser's back-forward cache: what the page holds may be older than the log.
addEventListener("pageshow", (event) => event.persisted && location.reload());

start();
