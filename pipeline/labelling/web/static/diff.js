// The words that differ between two texts.

/** Most words of one text; for more the table of the longest common subsequence takes too long. */
export const MOST_WORDS = 2000;

// Scripts written without spaces are compared by character; a punctuation mark is a word.
const WORD =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]|[[\p{L}\p{N}\p{M}_'’]--[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]]+|[^\s\p{L}\p{N}\p{M}_'’]/gv;

/**
 * Ranges [start, end) of the words that only one text has, neighbours joined.
 *
 * Returns {tooLong, same, a, b}; tooLong: a text has more than MOST_WORDS words, and nothing was compared.
 */
export function wordDiff(a, b) {
  const left = words(a);
  const right = words(b);
  if (!left || !right) return { tooLong: true, same: false, a: [], b: [] };
  const [keptLeft, keptRight] = common(left, right);
  const marks = { a: ranges(left, keptLeft), b: ranges(right, keptRight) };
  return { tooLong: false, same: !marks.a.length && !marks.b.length, ...marks };
}

function words(text) {
  const list = [];
  for (const match of text.matchAll(WORD)) {
    if (list.length === MOST_WORDS) return null;
    list.push({ word: match[0], start: match.index, end: match.index + match[0].length });
  }
  return list;
}

function common(left, right) {
  const same = (i, j) => left[i].word === right[j].word;
  let head = 0;
  while (head < left.length && head < right.length && same(head, head)) head++;
  let tail = 0;
  const shorter = Math.min(left.length, right.length) - head;
  while (tail < shorter && same(left.length - 1 - tail, right.length - 1 - tail)) tail++;

  const n = left.length - head - tail;
  const m = right.length - head - tail;
  const width = m + 1;
  const longest = new Uint16Array((n + 1) * width); // [i, j]: of the words from i and from j on
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      const at = i * width + j;
      longest[at] = same(head + i, head + j)
        ? longest[at + width + 1] + 1
        : Math.max(longest[at + width], longest[at + 1]);
    }
  }
  const keptLeft = new Uint8Array(left.length).fill(1);
  const keptRight = new Uint8Array(right.length).fill(1);
  keptLeft.fill(0, head, head + n);
  keptRight.fill(0, head, head + m);
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (same(head + i, head + j)) {
      keptLeft[head + i++] = 1;
      keptRight[head + j++] = 1;
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
    else j++;
  }
  return [keptLeft, keptRight];
}

function ranges(words, kept) {
  const list = [];
  words.forEach(({ start, end }, i) => {
    if (kept[i]) return;
    if (i && !kept[i - 1]) list.at(-1)[1] = end;
    else list.push([start, end]);
  });
  return list;
}
