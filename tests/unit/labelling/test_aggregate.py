"""From votes to outcomes: hand arithmetic, simulated people whose errors are known, and what must not matter."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.labelling.aggregate import Outcome, _most_probable, adjudicated, aggregate, pair_choices
from pipeline.labelling.items import Item, Mode
from pipeline.labelling.settings import Aggregation
from pipeline.labelling.vote_models import dawid_skene, strengths
from tests.unit.labelling.helpers import current_vote as vote

HOW: tuple[Aggregation, ...] = ("majority", "dawid_skene", "bradley_terry")


def ask(given: Mapping[Item, Sequence[str | None]], how: Aggregation = "majority") -> list[Outcome | None]:
    """Outcomes in the order of the items; the n-th choice is that of person n."""
    votes = {i.id: [vote(i, f"p{n}", c) for n, c in enumerate(row) if c] for i, row in given.items()}
    outcomes = aggregate(votes, {i.id: i for i in given}, how)
    return [outcomes.get(i.id) for i in given]


def one(choices: Sequence[str | None], mode: Mode = "pairwise", how: Aggregation = "majority") -> Outcome:
    n = {"pairwise": 2, "ranking": 3}.get(mode, 1)
    (outcome,) = ask({Item("prompt", tuple("xyz"[:n]), mode): choices}, how)
    assert outcome is not None
    return outcome


@pytest.mark.parametrize(
    ("choices", "choice", "share", "margin"),
    [
        (["a"], "a", 1, 1),
        (["a", "b", "b"], "b", 2 / 3, 1 / 3),
        (["a", "b"], None, 1 / 2, None),
        (["a", "a", "b", "b", "tie"], None, 2 / 5, None),
        (["a", "tie"], None, 1 / 2, None),
        (["a", "a", "tie", "both_bad"], "a", 1 / 2, 1 / 2),
        (["b", "b", "a", "tie", "both_bad"], "b", 2 / 5, 1 / 5),
        (["tie", "tie", "a"], "tie", 2 / 3, None),
        (["both_bad", "both_bad", "b"], "both_bad", 2 / 3, None),
    ],
)
def test_majority_by_hand(choices: list[str], choice: str | None, share: float, margin: float | None) -> None:
    found = one(choices)
    assert (found.choice, found.share, found.n) == (choice, pytest.approx(share), len(choices))
    assert found.margin == (None if margin is None else pytest.approx(margin))


def test_likes_and_ratings_by_hand() -> None:
    liked, split = one(["like", "like", "dislike"], "thumbs"), one(["like", "dislike"], "thumbs")
    assert (liked.choice, liked.value) == ("like", pytest.approx(2 / 3))
    assert (split.choice, split.value) == (None, 0.5)
    assert one(["dislike"], "thumbs").value == 0
    rated = one(["5", "4", "4"], "rating")
    assert (rated.choice, rated.value, rated.share) == ("4.33333", pytest.approx(13 / 3), pytest.approx(2 / 3))


def test_ranking_by_pairs() -> None:
    found = one(["0>1>2", "0>2>1", "1>0=2"], "ranking")
    # (0, 1): a a b. (0, 2): a a tie. (1, 2): a b a.
    assert {pair: (o.choice, o.share) for pair, o in found.pairs.items()} == {
        (0, 1): ("a", pytest.approx(2 / 3)),
        (0, 2): ("a", pytest.approx(2 / 3)),
        (1, 2): ("a", pytest.approx(2 / 3)),
    }
    assert (found.choice, found.share, found.n) == ("0>1>2", pytest.approx(2 / 3), 3)
    assert found.pairs[0, 1].margin == pytest.approx(1 / 3)
    assert found.pairs[0, 2].margin == pytest.approx(2 / 3)
    assert one(["1=2>0", "0=1=2", "2=1>0"], "ranking").choice == "1=2>0"
    assert one(["0>1>2", "0>1>2", "0>2>1"], "ranking").share == pytest.approx(2 / 3)


def test_a_circle_is_no_ranking_but_its_pairs_are_decided() -> None:
    found = one(["0>1>2", "1>2>0", "2>0>1"], "ranking")
    assert found.choice is None
    assert [found.pairs[p].choice for p in ((0, 1), (0, 2), (1, 2))] == ["a", "b", "a"]
    assert [o.choice for o in one(["0>1>2", "1>0>2"], "ranking").pairs.values()] == [None, "a", "a"]
    assert one(["0>1>2", "1>0>2"], "ranking").choice is None


def test_a_rankings_pairs() -> None:
    assert pair_choices("2>0=1") == ("tie", "b", "b")
    assert pair_choices("1>3>0>2") == ("b", "a", "b", "a", "a", "b")


@pytest.mark.parametrize("how", HOW)
def test_gold_items_and_repeats_decide_nothing(how: Aggregation) -> None:
    i, known = Item("prompt", ("x", "y")), Item("known", ("x", "y"), gold="a")
    votes = {i.id: [vote(i, "p0", "a"), vote(i, "p0", "b", round=1)], known.id: [vote(known, "p0", "a")]}
    found = aggregate(votes, {i.id: i, known.id: known}, how)
    assert {k: (o.choice, o.n) for k, o in found.items()} == {i.id: ("a", 1)}
    assert aggregate({i.id: [vote(i, "p0", "a", round=1)]}, {i.id: i}, how) == {}
    assert aggregate({}, {}, how) == {}


def test_an_adjudication_overrides_the_votes() -> None:
    i = Item("prompt", ("x", "y"))
    found = adjudicated(i, "b", [vote(i, "p0", "a"), vote(i, "p1", "a"), vote(i, "p2", "b")])
    assert (found.choice, found.share, found.n, found.margin, found.adjudicated) == ("b", 1 / 3, 3, None, True)
    assert adjudicated(i, "tie", []).share is None
    three = adjudicated(Item("prompt", ("x", "y", "z"), "ranking"), "2>0=1", [])
    assert {pair: o.choice for pair, o in three.pairs.items()} == {(0, 1): "tie", (0, 2): "b", (1, 2): "b"}
    assert all(o.adjudicated for o in three.pairs.values())
    assert adjudicated(Item("prompt", ("x",), "rating"), "4", []).value == 4
    assert adjudicated(Item("prompt", ("x",), "thumbs"), "dislike", []).value == 0


# --- Dawid and Skene


def simulated(n: int, right: Sequence[float], seed: int) -> tuple[dict[Item, list[str | None]], list[str]]:
    """Each person chooses the truth with their probability."""
    draw = random.Random(seed)
    truth = [draw.choice("ab") for _ in range(n)]
    rows = [[t if draw.random() < p else "ba"["ab".index(t)] for p in right] for t in truth]
    return {Item(f"prompt {k}", ("x", "y")): list(row) for k, row in enumerate(rows)}, truth


def test_one_adversary_among_five_is_seen_through() -> None:
    given, truth = simulated(400, [0.75, 0.75, 0.7, 0.7, 0.05], seed=1)
    right = {
        how: sum(o is not None and o.choice == t for o, t in zip(ask(given, how), truth, strict=True))
        for how in ("majority", "dawid_skene")
    }
    # Knowing the errors, the best rule weighs a vote by log(p / (1 - p)): the adversary's counts most, reversed.
    weights = [math.log(p / (1 - p)) for p in (0.75, 0.75, 0.7, 0.7, 0.05)]
    best = sum(
        (sum(w if c == "a" else -w for w, c in zip(weights, row, strict=True)) > 0) == (t == "a")
        for row, t in zip(given.values(), truth, strict=True)
    )
    assert right["majority"] < 300
    assert right["dawid_skene"] > best - 8 > 370


def test_posteriors_are_those_of_a_plain_loop() -> None:
    given, _ = simulated(60, [0.9, 0.8, 0.6], seed=2)
    rows = [[c for c in row if c] for row in given.values()]
    rows += [["ba"["ab".index(c)] for c in row] for row in rows]
    p = [row.count("a") / 3 for row in rows]
    for _ in range(100):
        prior = sum(p) / len(p)
        # how[who][truth]: probability that the person says a
        how = [
            [
                sum(q for q, row in zip(share, rows, strict=True) if row[who] == "a") / sum(share)
                for share in (p, [1 - q for q in p])
            ]
            for who in range(3)
        ]
        likely = [
            [
                math.prod(h[truth] if c == "a" else 1 - h[truth] for h, c in zip(how, row, strict=True))
                for truth in range(2)
            ]
            for row in rows
        ]
        p = [prior * a / (prior * a + (1 - prior) * b) for a, b in likely]
    answers = {(f"{n:03}", 0): [(f"p{k}", c) for k, c in enumerate(row)] for n, row in enumerate(rows[:60])}
    found = [posterior["a"] for posterior in dawid_skene(answers, sides=True).values()]
    # Crowd-kit stops when the bound rises by less than 1e-5 per vote, a little before the loop's 100 rounds.
    assert found == pytest.approx(p[:60], abs=0.05)


def test_even_votes_of_equal_people_stay_undecided() -> None:
    # Without asking both ways round, the greater share of a among all comparisons decides every even one.
    rows = [["a", "a"]] * 60 + [["b", "b"]] * 20 + [["a", "b"], ["b", "a"]] * 5
    given = {Item(f"prompt {n}", ("x", "y")): row for n, row in enumerate(rows)}
    found = [o for o in ask(given, "dawid_skene") if o]
    assert {o.choice for o in found[80:]} == {None}
    assert found[80].confidence == pytest.approx(0.5, abs=1e-6)
    assert found[80].margin is None
    assert {o.choice for o in found[:60]} == {"a"}


# Mutation caught: EQUAL 1e-6 -> 1e-3.
@pytest.mark.parametrize(("lead", "choice"), [(9e-7, None), (2e-6, "a"), (1e-4, "a")])
def test_posteriors_that_are_equal_up_to_rounding_decide_nothing(lead: float, choice: str | None) -> None:
    posterior = {"a": 0.4 + lead, "b": 0.4, "tie": 0.2 - lead}
    assert _most_probable(["a", "b"], posterior).choice == choice


def test_unanimous_votes_stand_and_so_does_a_single_one() -> None:
    given, _ = simulated(200, [0.95, 0.95, 0.95, 0.1], seed=3)
    lonely = {Item(f"lonely {n}", ("x", "y")): [None, None, None, "a"] for n in range(3)}
    found = [o for o in ask(given | lonely, "dawid_skene") if o]
    assert [o.choice for o in found[200:]] == ["a"] * 3
    assert found[200].margin == 1
    assert found[200].confidence is not None
    assert found[200].confidence < 0.3  # the model thinks the opposite
    unanimous = [(o.choice, row[0]) for o, row in zip(found, given.values(), strict=False) if len(set(row)) == 1]
    assert unanimous
    assert all(choice == said for choice, said in unanimous)


def test_dawid_skene_of_other_modes() -> None:
    alone = one(["tie"], how="dawid_skene")
    assert (alone.choice, alone.confidence) == ("tie", 1)
    rows = [["5", "5", "1"], ["1", "1", "5"], ["4", "4", "2"], ["2", "2", "4"], ["4", "5", "1"]] * 4
    rated = [o for o in ask({Item(f"{n}", ("x",), "rating"): r for n, r in enumerate(rows)}, "dawid_skene") if o]
    assert (rated[0].choice, rated[0].value) == ("5", 5)
    assert (rated[1].choice, rated[1].value) == ("1", 1)
    liked = [["like", "like", "dislike"], ["dislike", "dislike", "like"], ["like", "like", "like"]] * 6
    thumbs = [o for o in ask({Item(f"{n}", ("x",), "thumbs"): r for n, r in enumerate(liked)}, "dawid_skene") if o]
    assert [o.choice for o in thumbs[:3]] == ["like", "dislike", "like"]
    assert thumbs[1].value is not None
    assert thumbs[1].value < 0.1
    ranked = one(["2>0>1", "2>1>0", "2>0>1"], "ranking", "dawid_skene")
    assert ranked.choice == "2>0>1"
    assert ranked.confidence == min(o.confidence or 0 for o in ranked.pairs.values())


# --- Bradley and Terry


def test_strengths_of_one_game_solve_their_equation() -> None:
    # d = x_0 - x_1 maximises log sigmoid(d) - d^2 / 4, so sigmoid(-d) = d / 2.
    x = strengths([0], [1], [1.0], 2)
    d = x[0] - x[1]
    assert 1 / (1 + math.exp(d)) == pytest.approx(d / 2, abs=1e-9)
    assert x.sum() == pytest.approx(0, abs=1e-9)
    assert list(strengths([], [], [], 2)) == [0, 0]
    # Nearly even games curve the likelihood most: a bound of the Hessian that is too low makes the steps diverge.
    many = strengths([0, 1], [1, 0], [600.0, 400.0], 2)
    d = many[0] - many[1]
    assert 600 / (1 + math.exp(d)) - 400 / (1 + math.exp(-d)) == pytest.approx(d / 2, abs=1e-6)


def test_strengths_equal_penalised_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = random.Random(5)
    games = [(*draw.sample(range(7), 2), draw.choice([0.5, 1.0])) for _ in range(120)]
    games += [(7, k, 1.0) for k in range(7)]  # 7 was never beaten
    rows = np.zeros((len(games), 8))
    for n, (i, j, _) in enumerate(games):
        rows[n, [i, j]] = 1, -1
    # Each game once as a win and once, seen from the other side, as a loss: half the penalty for each.
    model = LogisticRegression(C=0.5, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(np.vstack([rows, -rows]), [1] * len(games) + [0] * len(games), [w for _, _, w in games] * 2)
    found = strengths(*zip(*games, strict=True), n=8)
    assert found == pytest.approx(model.coef_[0], abs=1e-6)
    assert found.argmax() == 7


def test_simulated_strengths_come_out_in_order() -> None:
    true, draw = [1.5, 0.9, 0.3, -0.3, -0.9, -1.5], random.Random(7)
    prompt = Item("prompt", tuple("uvwxyz"), "ranking")
    given: dict[Item, list[str | None]] = {}
    for i in range(6):
        for j in range(i + 1, 6):
            p = 1 / (1 + math.exp(true[j] - true[i]))
            pair = Item("prompt", (prompt.completions[i], prompt.completions[j]))
            given[pair] = ["a" if draw.random() < p else "b" for _ in range(150)]
    found = [o for o in ask(given, "bradley_terry") if o]
    assert [o.choice for o in found] == ["a"] * 15
    # The margin of (u, z) is the difference of their strengths, 3, within sampling error and the prior's pull.
    assert found[4].margin == pytest.approx(3, abs=0.4)


def test_other_pairs_of_the_prompt_decide_an_even_one() -> None:
    x_y, y_z, x_z = (Item("prompt", pair) for pair in (("x", "y"), ("y", "z"), ("x", "z")))
    elsewhere = Item("another prompt", ("y", "x"))
    given = {x_y: ["a", "b"], x_z: ["a", "a"], y_z: ["b", "b"], elsewhere: ["a"] * 9}
    found = [o for o in ask(given, "bradley_terry") if o]
    assert [o.choice for o in found] == ["a", "a", "b", "a"]
    assert ask({x_y: ["a", "b"], elsewhere: ["a"] * 9}, "bradley_terry")[0] == Outcome(None, 0.5, 2)


def test_ties_and_bad_pairs_under_bradley_terry() -> None:
    assert one(["tie", "tie"], how="bradley_terry").choice == "tie"
    assert one(["both_bad", "both_bad", "a"], how="bradley_terry") == Outcome("both_bad", 2 / 3, 3)
    # A draw is half a game for either side: it makes the lead smaller, not larger.
    with_tie, without = one(["a", "tie"], how="bradley_terry"), one(["a"], how="bradley_terry")
    assert with_tie.choice == without.choice == "a"
    assert with_tie.margin is not None
    assert without.margin is not None
    assert 0 < with_tie.margin < without.margin
    assert one(["0>1>2", "0=1>2"], "ranking", "bradley_terry").choice == "0>1>2"


# --- what must not matter


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what holds after any number of EM's rounds, as each takes 10 ms."""
    monkeypatch.setattr("pipeline.labelling.vote_models.EM_ITERATIONS", 5)


def some(mode: Mode, seed: int) -> dict[Item, list[str | None]]:
    draw = random.Random(seed)
    choices = {"pairwise": ["a", "a", "b", "tie", "both_bad"], "ranking": ["0>1>2", "1>0=2", "2>1>0", "2>0>1"]}[
        mode
    ]
    size = 2 if mode == "pairwise" else 3
    return {
        Item(f"prompt {n // 2}", tuple(f"{n} {k}" for k in range(size)), mode): [
            draw.choice([*choices, None]) for _ in range(5)
        ]
        for n in range(24)
    }


def close(found: Outcome | None, expected: Outcome | None) -> bool:
    if found is None or expected is None:
        return found is expected
    numbers = [(o.share, o.confidence, o.margin, o.value) for o in (found, expected)]
    same = all(
        x == y if x is None or y is None else math.isclose(x, y, abs_tol=1e-6)
        for x, y in zip(*numbers, strict=True)
    )
    pairs = found.pairs.keys() == expected.pairs.keys() and all(
        close(o, expected.pairs[pair]) for pair, o in found.pairs.items()
    )
    return same and pairs and (found.choice, found.n) == (expected.choice, expected.n)


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", ["pairwise", "ranking"])
def test_order_of_votes_and_names_of_people_do_not_matter(how: Aggregation, mode: Mode) -> None:
    given, draw = some(mode, 11), random.Random(0)
    votes = {i.id: [vote(i, f"p{n}", c) for n, c in enumerate(row) if c] for i, row in given.items()}
    items = {i.id: i for i in given}
    expected = aggregate(votes, items, how)
    shuffled = {k: draw.sample(votes[k], len(votes[k])) for k in draw.sample(list(votes), len(votes))}
    assert aggregate(shuffled, items, how) == expected
    names = {f"p{n}": name for n, name in enumerate("tqrsp")}
    renamed = {k: [replace(v, annotator=names[v.annotator]) for v in some] for k, some in votes.items()}
    found = aggregate(renamed, items, how)
    assert found.keys() == expected.keys()
    assert all(close(found[k], expected[k]) for k in expected)


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("how", HOW)
def test_which_completion_is_a_does_not_matter(how: Aggregation) -> None:
    """Of a single item as little as of all."""
    given, draw = some("pairwise", 13), random.Random(0)
    expected = ask(given, how)
    for chance in (1.0, 0.5):
        turn = [draw.random() < chance for _ in given]
        other = {"a": "b", "b": "a"}
        turned = {
            Item(i.prompt, i.completions[::-1]) if t else i: [other.get(c, c) if t and c else c for c in row]
            for t, (i, row) in zip(turn, given.items(), strict=True)
        }
        for t, found, was in zip(turn, ask(turned, how), expected, strict=True):
            if t and was is not None and was.choice is not None:
                was = replace(was, choice=other.get(was.choice, was.choice))
            assert close(found, was)


def test_one_more_vote_for_the_majority_never_flips_it() -> None:
    draw = random.Random(17)
    for _ in range(300):
        choices = [draw.choice(["a", "b", "tie", "both_bad"]) for _ in range(draw.randrange(1, 8))]
        before = one(choices).choice
        if before is not None:
            assert one([*choices, before]).choice == before
