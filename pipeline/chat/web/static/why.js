// Shows how the score of one answer came about: marked tokens, the score's line, every number, and what it is not.

import { make, newBudget, put } from "/static/text.js";
import { stopped, why } from "./answers.js";

const SVG = "http://www.w3.org/2000/svg";
const KINDS = {
  scores: { name: "Why this score?", attribution: false },
  attribution: { name: "Attribution", attribution: true },
};

/** The buttons of one answer, and what they open. `ticket()` gives {exchange, signature}. */
export class Why {
  constructor(id, place, ticket, attributed) {
    this.place = place;
    this.ticket = ticket;
    this.asked = null; // the AbortController of what is being computed
    this.open = null; // scores, attribution or nothing
    this.results = {};
    this.panel = make("div", { className: "explained", id: `${id}-why`, role: "group", hidden: true });
    this.buttons = Object.entries(KINDS).map(([kind, { name }]) => {
      const button = make("button", { type: "button", className: "quiet", text: name, hidden: kind === "attribution" && !attributed });
      button.setAttribute("aria-controls", this.panel.id);
      button.addEventListener("click", () => this.toggle(kind));
      return button;
    });
    const line = make("div", { className: "asks" }, ...this.buttons);
    this.element = make("div", { className: "why", hidden: true }, line, this.panel);
    this.draw();
  }

  toggle(kind) {
    this.asked?.abort();
    this.asked = null;
    this.open = this.open === kind ? null : kind;
    this.draw();
    if (this.open && !this.results[kind]) this.ask(kind);
  }

  /** Close it: what it is about is hidden again. */
  close() {
    if (this.open) this.toggle(this.open);
    this.results = {};
  }

  async ask(kind) {
    const asked = (this.asked = new AbortController());
    const { exchange, signature } = this.ticket();
    const body = { exchange, signature, place: this.place, attribution: KINDS[kind].attribution };
    try {
      this.results[kind] = await why(body, asked.signal);
      this.draw();
    } catch (problem) {
      if (stopped(problem)) return;
      if (this.asked === asked) this.panel.replaceChildren(make("p", { className: "problem", role: "alert", text: problem.message }));
      if (problem.status === undefined) throw problem; // a bug in these scripts: for the console
    }
  }

  draw() {
    Object.keys(KINDS).forEach((kind, i) => this.buttons[i].setAttribute("aria-expanded", String(this.open === kind)));
    this.panel.hidden = !this.open;
    this.panel.setAttribute("aria-label", this.open ? KINDS[this.open].name : "");
    if (!this.open) return;
    const result = this.results[this.open];
    if (result) this.panel.replaceChildren(...explanation(result));
    else this.panel.replaceChildren(make("p", { className: "soft", role: "status", text: "Being computed …" }));
  }
}

function explanation({ prompt, completion, points, level, label, sentences }) {
  const parts = [];
  const budget = newBudget();
  if (prompt) parts.push(make("h4", { text: "Prompt" }), marked(prompt, budget), make("h4", { text: "Answer" }));
  parts.push(marked(completion, budget));
  if (points) parts.push(drawnLine(points, level, label), make("p", { className: "soft", text: sentence(label) }));
  parts.push(legend(points !== undefined), ...sentences.map((text) => make("p", { className: "soft", text })));
  parts.push(table([...(prompt ?? []), ...completion], points !== undefined));
  return parts;
}

function marked(tokens, budget) {
  const text = make("div", { className: "text", dir: "auto" });
  for (const [token, score, change, mark] of tokens) {
    const word = token.trimStart() || token; // the space before a word is not underlined
    const span = make("span", { className: mark });
    span.title = score === null ? signed(change) : `${number(score)} (${signed(change)})`;
    put(text, token.slice(0, token.length - word.length), budget);
    put(span, word, budget);
    text.append(span);
  }
  return text;
}

/** As in the report: how the marks are read. */
function legend(course) {
  const example = (mark, text) => make("span", { className: mark, text });
  const [rose, fell] = course ? ["where it rose", "where it fell"] : ["above zero", "below zero"];
  const line = make("p", { className: "soft legend" });
  line.append(
    course
      ? "Underlined are the tokens after which the reward model’s score changed most: "
      : "Underlined are the tokens with the largest attributions: ",
    example("up", "solid"), ` ${rose}, `, example("up strong", "solid and thick"), " strongly; ",
    example("down", "dashed"), ` ${fell}, `, example("down strong", "dashed and thick"), " strongly.",
    course ? " Each is the score of the text cut there. The line runs from the prompt alone (grey) to the whole text." : "",
  );
  return line;
}

function drawnLine(points, level, label) {
  const svg = drawn("svg", { viewBox: "0 0 150 34", preserveAspectRatio: "xMinYMid", role: "img", "aria-label": label, class: "course" });
  svg.append(drawn("path", { class: "level", d: `M0 ${level}H150` }), drawn("polyline", { points }));
  return svg;
}

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Every number, for those who see no marks, or want more than marks. */
function table(tokens, course) {
  const columns = course ? ["token", "score", "change"] : ["token", "attribution"];
  const head = make("tr", {}, ...columns.map((text) => make("th", { scope: "col", text })));
  const budget = newBudget();
  const rows = tokens.map(([token, score, change]) => {
    const name = make("th", { scope: "row", dir: "auto" });
    put(name, token.trim() ? token : JSON.stringify(token), budget);
    const numbers = course ? [number(score), signed(change)] : [signed(change)];
    return make("tr", {}, name, ...numbers.map((text) => make("td", { text })));
  });
  const body = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Every token" }, body);
  return make("details", {}, make("summary", { text: `All ${tokens.length} tokens` }), scroll);
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

function number(value) {
  return value.toFixed(2).replace("-", "−");
}

function signed(value) {
  return (value > 0 ? "+" : "") + number(value);
}
