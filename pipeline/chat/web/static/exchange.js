// Draws one message and its two answers, with what the person says of them.

import { make, show } from "/static/text.js";
import { Why } from "./why.js";

const THUMBS = { like: "Thumbs up", dislike: "Thumbs down" };
let drawn = 0;

/**
 * An exchange on the page.
 *
 * data: plain, so that it survives a reload: question, before (earlier messages), answers [{text, score, tokens, ended}],
 * ticket {exchange, signature, differs} once both have ended, choice, thumbs, edits, goesOn, names, refs, problem.
 * acts: choose(choice), thumb(place, choice), edit(place), goOn(place). explains: whether scores can be explained, and
 * attributes: divided over the tokens.
 */
export class Exchange {
  constructor(data, acts, { blind, turns, explains, attributes }) {
    this.data = data;
    this.acts = acts;
    this.blind = blind;
    this.turns = turns;
    this.explains = explains;
    this.attributes = attributes;
    this.asked = 0;
    this.build(`e${++drawn}`);
    this.draw();
  }

  build(id) {
    const body = make("div", { className: "text" });
    show(body, this.data.question);
    const you = make("div", { className: "turn user" }, make("h3", { id, text: "You" }), body);
    this.cards = [0, 1].map((place) => this.card(place, `${id}-${place}`));
    const answers = make("div", { className: "answers" }, ...this.cards.map(({ element }) => element));
    this.verdict = make("div", { className: "verdict", role: "group", "aria-label": "Which answer is better?" });
    this.problem = make("p", { className: "problem" });
    this.element = make("section", { className: "exchange" }, you, answers, this.verdict, this.problem);
    this.element.setAttribute("aria-labelledby", id);
  }

  card(place, id) {
    const heading = make("h3", { id });
    const ref = make("span", { className: "soft" });
    const figures = make("span", { className: "soft figures" });
    const text = make("div", { className: "text" });
    const better = make("div", { className: "better", hidden: true });
    const body = make("div", { className: "body" }, text, better);
    const opinions = make("div", { className: "opinions", role: "group", hidden: true });
    const line = make("div", { className: "line" }, heading, ref, figures);
    const why = new Why(id, place, () => this.data.ticket, this.attributes);
    const element = make("article", { className: "card answer" }, line, body, why.element, opinions);
    element.setAttribute("aria-labelledby", id);
    return { place, element, heading, ref, figures, text, better, body, why, opinions };
  }

  /** What an answer is called: base and policy, or A and B where names are hidden at first. */
  nameOf(place) {
    return this.blind ? "AB"[place] : this.data.names[place];
  }

  /** The same within a sentence. */
  ownerOf(place) {
    return this.blind ? `answer ${this.nameOf(place)}` : `the ${this.nameOf(place)}’s answer`;
  }

  get over() {
    return this.data.ticket !== undefined;
  }

  /** Whether names and scores are hidden: until the person has chosen. */
  get hidden() {
    return this.blind && !this.data.refs;
  }

  draw() {
    for (const card of this.cards) this.drawCard(card);
    this.drawVerdict();
    this.problem.textContent = this.data.problem ?? "";
  }

  /** Once a frame is enough, whatever the number of tokens. */
  drawSoon() {
    this.asked ||= requestAnimationFrame(() => {
      this.asked = 0;
      this.draw();
    });
  }

  drawCard(card) {
    const { place } = card;
    const answer = this.data.answers[place];
    card.heading.textContent = this.blind ? `Answer ${this.nameOf(place)}` : capital(this.nameOf(place));
    card.ref.textContent = this.hidden ? "" : (this.data.refs?.[place] ?? "");
    card.figures.textContent = this.figures(answer);
    const writing = !answer.done && !this.data.problem;
    card.body.setAttribute("aria-busy", String(writing));
    if (answer.done || answer.text) show(card.text, answer.text);
    else card.text.replaceChildren();
    this.drawEdit(card);
    this.drawWhy(card, answer);
    card.opinions.hidden = !this.over;
    card.element.classList.toggle("chosen", this.data.choice === "ab"[place]);
    if (this.over) this.drawOpinions(card, answer);
  }

  drawWhy({ why }, { score, text }) {
    const may = this.explains && this.over && !this.hidden && score !== null && text !== "";
    why.element.hidden = !may;
    if (!may) why.close();
  }

  figures({ done, score, tokens, ended, before }) {
    if (!done) return before ? `waits behind ${before}` : "";
    const parts = [`${tokens} tokens${ended ? "" : ", cut by its length"}`];
    if (score !== null && !this.hidden) parts.unshift(`score ${score.toFixed(2).replace("-", "−")}`);
    return parts.join(" · ");
  }

  drawEdit({ place, better }) {
    const text = this.data.edits[place];
    better.hidden = text === undefined;
    if (text === undefined) return;
    const body = make("div", { className: "text" });
    show(body, text);
    better.replaceChildren(make("h4", { text: "Your better answer" }), body);
  }

  drawOpinions({ place, opinions }, answer) {
    opinions.setAttribute("aria-label", `What you think of ${this.ownerOf(place)}`);
    const empty = !answer.text.trim();
    const buttons = Object.entries(THUMBS).map(([choice, label]) => {
      const pressed = this.data.thumbs[place] === choice;
      return this.button(label, pressed, () => this.acts.thumb(place, pressed ? null : choice), empty);
    });
    buttons.push(this.button("Write a better one", undefined, () => this.acts.edit(place), empty));
    if (this.turns()) {
      buttons.push(this.button("Go on from here", this.data.goesOn === place, () => this.acts.goOn(place)));
    }
    fill(opinions, buttons);
  }

  drawVerdict() {
    this.verdict.hidden = !this.over;
    if (!this.over) return;
    if (!this.data.ticket.differs) {
      const words = "Both wrote the same, or one wrote nothing: there is nothing to choose between.";
      this.verdict.replaceChildren(make("p", { className: "soft", text: words }));
      return;
    }
    const names = [0, 1].map((place) => capital(this.nameOf(place)));
    const choices = { a: `${names[0]} is better`, tie: "Tie", both_bad: "Both bad", b: `${names[1]} is better` };
    const buttons = Object.entries(choices).map(([choice, label]) => {
      const pressed = this.data.choice === choice;
      return this.button(label, pressed, () => this.acts.choose(pressed ? null : choice));
    });
    fill(this.verdict, buttons);
  }

  button(text, pressed, run, disabled = false) {
    const button = make("button", { type: "button", text, disabled });
    if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", run);
    return button;
  }
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}

/** Replace buttons, and keep the focus where it was. */
function fill(parent, buttons) {
  const at = [...parent.children].indexOf(document.activeElement);
  parent.replaceChildren(...buttons);
  if (at >= 0) buttons[at]?.focus({ preventScroll: true });
}
