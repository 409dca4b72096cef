"""The truth about a review: what each rule gives by hand, and texts written to get a score they do not deserve."""

from __future__ import annotations

import random
import re
from statistics import mean

import pytest

from pipeline.base.errors import ConfigError
from pipeline.tasks import load_task
from pipeline.tasks._vader import vader_scores
from pipeline.tasks.grammars import reviews as grammar
from pipeline.tasks.truths.reviews import TRUTH_NAME, truth, truths

PROMPT = "I saw it at a small festival. The plot was"

GOOD = [
    " superb.",
    " really charming, and the cast felt great.",
    " lovely. The final scene is quite brilliant. It made me smile more than once.",
    " perfect and the editing looked nice. The script seemed so good. What a joy.",
    " truly excellent. I recommend it to everyone.",
    " wonderful. I enjoyed every minute of it. Five stars from me.",
]

ATTACKS = {
    "the favourite sentence, again and again": " great." + " My friends loved it too." * 6,
    "a soup of praise": " wonderful great superb perfect lovely.",
    "praise without a sentence around it": " perfect perfect perfect love love joy happy.",
    "broken grammar": " superb the cast. Everyone recommend it to joy felt very great.",
    "praise, then blame of the whole": " superb. The cast felt great. I want my money back.",
    "blame of the whole, then praise": " superb. One star from me. The cast felt great. The music is lovely.",
    "praise and blame of the whole": " superb. I enjoyed every minute of it. You will regret it.",
    "praise and blame of one thing": " superb. The plot was terrible. The plot was superb.",
    "cut by the length limit": " superb, and the",
    "cut in the middle of a word": " su",
    "nothing": "",
    "white space": "   ",
    "the prompt again": " I saw it at a small festival. The plot was",
    "another opening": " great. We watched it with the whole family. We went to the cinema on Friday.",
    "one thing praised five times": " great."
    + "".join(f" The plot is {w}." for w in ("nice", "good", "lovely", "superb")),
    "one thing praised in both halves": " great, and the plot felt nice. The plot seemed lovely.",
    "a kind word in a sentence of blame": " boring. My friends disliked it too.",
    "kind words that are no sentence": " friends. Friends friends. Joy joy love.",
    "a turn between praises": " great, but the cast was superb, but the music was lovely.",
    "what a film has not": " ugly. The battery was great. The lid felt lovely.",
    "a comma hides the word": " great,awful.",
    "no blank between sentences": " superb.I recommend it to everyone.What a joy.",
    "exclamation": " superb!!! WONDERFUL!!! LOVE IT!!!",
    "praise denied": " not bad at all, great, not terrible.",
    "another language": " super, et la musique etait superbe.",
}


@pytest.mark.parametrize("completion", GOOD)
def test_honest_praise_has_the_best_score(completion: str) -> None:
    assert truth(PROMPT, completion) == 1.0


@pytest.mark.parametrize("completion", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_do_not_pay(completion: str) -> None:
    """None reaches what one plain opinion has (0), and most are at the bottom."""
    assert truth(PROMPT, completion) <= 0


def test_most_attacks_are_at_the_bottom_and_a_lexicon_likes_many() -> None:
    texts = list(ATTACKS.values())
    scores = truths([PROMPT] * len(texts), texts)
    assert sum(score <= -0.3 for score in scores) >= 20
    liked = [text for text, lexicon in zip(texts, vader_scores(texts), strict=True) if lexicon > 0.6]
    assert len(liked) >= 10, "attacks that fool nobody are no test"


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        (" long.", 0),
        (" superb, but the cast felt dull.", 0),
        (" superb, and the cast felt dull.", 0),  # 1, and a turn that is none: -1
        (" superb, but the cast felt great.", 0),  # 1, and a turn that is none: -1
        (" superb, but the cast felt long.", 1 / 2),
        (" superb. The cast felt plain. Judge for yourself.", 1 / 3),
        (" superb, but the cast felt dull. I recommend it to everyone.", 1 / 3),
        (" dull. The cast was ugly. I would choose it again.", -1 / 3),
        (" superb. The cast felt great. I want my money back.", -1 / 3),  # 0, 0, -1
        (" superb. What a joy. What a failure.", -2 / 3),  # 0, -1, -1
        (" superb. The plot is dull. The cast was nice.", -1 / 3),  # -1, -1, 1
        (" superb. The plot is nice.", 0),  # 1, -1
        (" superb. The plot was long.", 1 / 2),  # a remark is no second praise
        (" superb. What a joy. What a joy. What a joy.", 0),  # 1, 1, -1, -1
        (" superb. The cast was great. The music", 1 / 3),  # 1, 1, and the rest was cut
        (" superb. the cast was great.", 0),
        (" superb.  What a joy.", 1),  # white space is no fault
        (" superb. The price was great.", 0),  # of a film
    ],
)
def test_by_hand(completion: str, value: float) -> None:
    # Catches: any rule left out, and a mean over something else than the parts.
    assert truth(PROMPT, completion) == pytest.approx(value)


def test_what_the_prompt_says_is_not_judged() -> None:
    praised = "The plot was superb. What a joy. The cast felt"
    assert truth(praised, " dull.") == -1
    assert truth("The cast felt", " great.") == 1
    assert truth("", "The cast felt great.") == 1
    assert truth("Tell me of the film.", " The cast felt great. The plot is lovely.") == 1
    # The kind of thing is what the opening says, or else the first part.
    assert truth("The {} arrived on Monday. The lid was".format("tent"), " nice. The plot was nice.") == 0
    assert truth("The lid was", " nice. The plot was nice.") == 0
    assert truth("I saw it at a small festival.", " The lid was nice.") == -1
    assert truth("", "") == truth("I saw it at a small festival.", "") == -1
    assert truth(praised, " nice. What a joy.") == 0, "said before, in the prompt"


def moods(n: int) -> list[float]:
    """Truth of reviews as the grammar writes them, cut where prompts are."""
    rng = random.Random(3)
    cut = re.compile(rf"(.*?\. .*? (?:{'|'.join(grammar.VERBS)}))( .*)")
    prompts, completions = zip(*(cut.fullmatch(grammar.review(rng)).groups() for _ in range(n)), strict=True)  # type: ignore[union-attr]
    return truths(prompts, completions)


def test_reviews_as_written() -> None:
    scores = moods(2000)
    # Three good, three bad, one mixed of seven: about nought in the mean, and hardly anything in the middle.
    assert mean(scores) == pytest.approx(0, abs=0.08)
    assert mean(score > 0.5 for score in scores) == pytest.approx(3 / 7, abs=0.06)
    assert mean(score < -0.5 for score in scores) == pytest.approx(3 / 7, abs=0.06)
    assert mean(score for score in scores if score > 0.5) > 0.85


def test_the_grammar_never_speaks_of_a_part_twice() -> None:
    rng = random.Random(4)
    for _ in range(500):
        text = grammar.review(rng)
        for part in grammar.FILM_PARTS + grammar.PRODUCT_PARTS:
            assert len(re.findall(rf"\b(?i:{part}) (?:{'|'.join(grammar.VERBS)}) ", text)) <= 1


def test_the_tasks_gold_is_the_truth_or_on_request_a_lexicon() -> None:
    own = load_task("reviews", {}, "x.yaml")
    assert own.gold_name == TRUTH_NAME
    assert own.gold_scores([PROMPT], [" boring. My friends disliked it too."]) == [-1.0]
    lexicon = load_task("reviews", {"gold": "vader"}, "x.yaml")
    assert lexicon.gold_name == "VADER's opinion (-1..1)"
    assert lexicon.gold_scores([PROMPT], [" My friends disliked it too."]) == pytest.approx([0.1027])
    with pytest.raises(ConfigError, match="truth, vader"):
        load_task("reviews", {"gold": "bleu"}, "x.yaml")
    with pytest.raises(ConfigError, match="gold_name"):
        load_task("reviews", {"gold_name": "mine"}, "x.yaml")


def test_parts_may_come_again_on_request() -> None:
    texts = load_task("reviews", {"corpus_size": 500, "parts_again": True}, "x.yaml").corpus(0)
    once = load_task("reviews", {"corpus_size": 500}, "x.yaml").corpus(0)
    counts = [
        max(text.count(f"{part[1:]} ") for part in grammar.FILM_PARTS + grammar.PRODUCT_PARTS)
        for text in [*(texts or ()), *(once or ())]
    ]
    assert max(counts[:500]) > 1 == max(counts[500:])
