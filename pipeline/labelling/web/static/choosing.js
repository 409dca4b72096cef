// The answers and keys of each mode, and the state of a ranking. No DOM.

const RATINGS = ["very bad", "bad", "fair", "good", "very good"];

/**
 * The answers of a mode, in the order of their buttons: {choice, strength, keys, label, wide}.
 *
 * strengths: possible strengths, the strongest first; may be empty. A ranking has no such answers.
 */
export function answersOf(mode, strengths) {
  if (mode === "thumbs") {
    return [
      { choice: "like", label: "Like", keys: ["1", "ArrowUp"], wide: true },
      { choice: "dislike", label: "Dislike", keys: ["2", "ArrowDown"], wide: true },
    ];
  }
  if (mode === "rating") {
    return RATINGS.map((label, i) => ({ choice: String(i + 1), label, big: String(i + 1), keys: [String(i + 1)] }));
  }
  if (mode === "ranking") return [];
  const sides = { a: ["1", "ArrowLeft"], b: ["2", "ArrowRight"] };
  const better = (choice) => {
    const name = choice.toUpperCase();
    if (!strengths.length) return [{ choice, label: `${name} is better`, keys: sides[choice], wide: true }];
    const answers = strengths.map((strength) => ({
      choice,
      strength,
      label: `${name} ${strength} better`,
      keys: strength === "much" ? sides[choice].map((key) => `Shift+${key}`) : sides[choice],
    }));
    return choice === "a" ? answers : answers.reverse();
  };
  return [
    ...better("a"),
    { choice: "tie", label: "Tie", keys: ["t"] },
    { choice: "both_bad", label: "Both bad", keys: ["b"] },
    ...better("b"),
  ];
}

/** An unfinished ranking of n completions, best first. A group holds places; several in one are a tie. */
export class Ranking {
  constructor(n, choice = "") {
    this.n = n;
    this.tying = false;
    this.groups = choice ? choice.split(">").map((group) => group.split("=").map(Number)) : [];
  }

  get choice() {
    return this.groups.map((group) => group.join("=")).join(">");
  }

  get whole() {
    return this.groups.flat().length === this.n;
  }

  /** 1 for the best, equal for ties; 0 while unranked. */
  rankOf(place) {
    return this.groups.findIndex((group) => group.includes(place)) + 1;
  }

  /** Rank the completion at this place next, or remove it. */
  toggle(place) {
    const has = this.rankOf(place) > 0;
    if (has) {
      this.groups = this.groups.map((group) => group.filter((other) => other !== place));
      this.groups = this.groups.filter((group) => group.length);
    } else if (this.tying && this.groups.length) this.groups.at(-1).push(place);
    else this.groups.push([place]);
    this.tying = false;
  }

  /** Toggle whether the next completion ties with the last. */
  tie() {
    this.tying = !this.tying && this.groups.length > 0 && !this.whole;
  }

  takeBack() {
    const last = this.groups.at(-1)?.at(-1);
    if (last !== undefined) this.toggle(last);
  }
}
