"""Generator against discriminator: what a person wrote is better than what the policy wrote, whatever either says.

The people's texts are the task's. Each sample of the policy is compared with one that begins with the same prompt,
so that the reward model learns to tell them apart, and PPO to write what it takes for a person's (Goodfellow et
al. 2014, arXiv:1406.2661; for texts SeqGAN, Yu et al. 2017, arXiv:1609.05473). A loop trains it anew on each
policy's samples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pipeline.annotators import Annotator, Context
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import Abstention, Annotation, Choice, Comparison, bucket
from pipeline.texts.words import is_character, units


@dataclass(frozen=True)
class Options:
    """Which of the task's texts are used.

    Args:
        max_words: leave out people's completions that are longer, in words (of scripts without blanks in
            characters): a policy that is cut off before can be told from them by its length alone.
    """

    max_words: int | None = None


def build(options: Options, context: Context) -> Annotator:
    """The annotator of the context's texts. Raises ConfigError: the task has none."""
    texts = context.written(context.seed)
    if not texts:
        what = 'annotator "discriminator" compares samples with people\'s texts, and this task has none.'
        mend = "Take a task with a corpus, such as  task: continuation  with your texts as its dataset."
        raise ConfigError(context.where, what, mend)
    return Discriminator(options, context, texts)


class Discriminator:
    """See :class:`Options`. Answers and opponents depend on the seed and the texts alone."""

    name = "discriminator"

    def __init__(self, options: Options, context: Context, texts: Sequence[str]) -> None:
        self._options, self._context, self._texts = options, context, texts
        self._completions: dict[str, list[str]] = {}

    def opponents(self, prompts: Sequence[str]) -> list[list[str]]:
        """People's completions of each prompt; where a prompt comes again, it begins with the next of them.

        Raises:
            DataError: no text begins with any of the prompts.
        """
        self._find(prompts)
        if not any(self._completions[prompt] for prompt in prompts):
            what = f"none of {len(self._texts)} texts of people begins with one of the {len(prompts)} prompts."
            raise DataError(self._context.where, what, "Take prompts that are openings of the task's texts.")
        times = Counter[str]()
        chosen: list[list[str]] = []
        for prompt in prompts:
            texts, first = self._completions[prompt], times[prompt]
            chosen.append([texts[(first + i) % len(texts)] for i in range(len(texts))])
            times[prompt] += 1
        return chosen

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        return next(self.annotate_all([comparison]))

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        self._find({c.prompt for c in comparisons})
        for c in comparisons:
            texts = self._completions[c.prompt]
            yield self._judge(c, c.completion_a in texts, c.completion_b in texts)

    def _judge(self, comparison: Comparison, by_person_a: bool, by_person_b: bool) -> Annotation | Abstention:
        if not (by_person_a or by_person_b):
            return Abstention(comparison.id, self.name, "neither is a person's text")
        choice: Choice = "a" if by_person_a else "b"
        if by_person_a and by_person_b:
            # The policy has written what a person has written too, and nobody can tell which is the sample. To
            # leave such pairs out would make the discriminator look better the better the policy is.
            choice = "a" if bucket(comparison.id, salt=f"discriminator:{self._context.seed}") < 0.5 else "b"
        return Annotation(comparison.id, self.name, choice)

    def _find(self, prompts: Collection[str]) -> None:
        """Read the completions of prompts that were not asked for before, in an order of the seed's."""
        new = set(prompts) - self._completions.keys()
        lengths = sorted({len(prompt) for prompt in new})
        texts: dict[str, set[str]] = defaultdict(set)
        for text in self._texts:
            for length in lengths:
                if (prompt := text[:length]) in new and self._usable(prompt, text[length:]):
                    texts[prompt].add(text[length:])
        salt = f"discriminator:{self._context.seed}"
        for prompt in new:
            self._completions[prompt] = sorted(texts[prompt], key=lambda text: bucket(prompt + text, salt))

    def _usable(self, prompt: str, completion: str) -> bool:
        """Whether the text goes on after a whole word of the prompt's, and is short enough."""
        if not completion.strip() or _in_one_word(prompt[-1:], completion[0]):
            return False
        return self._options.max_words is None or len(units(completion)) <= self._options.max_words


def _in_one_word(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one word; in scripts without blanks each is a word."""
    return before.isalnum() and after.isalnum() and not is_character(before) and not is_character(after)
