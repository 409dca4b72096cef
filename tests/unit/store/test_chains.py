"""Which versions are the same work done again, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.store.chains import Key, chains, ends
from pipeline.store.manifest import Manifest, Parent


def made(name: str, number: int, *parents: Manifest, kind: str = "model", seed: int = 0, **more: Any) -> Manifest:
    """A version whose content differs from every other one's."""
    above = [Parent(p.name, p.version, p.id, p.name) for p in parents]
    return Manifest(name, number, f"{name} {number}", kind, name, "", parents=above, seed=seed, **more)


def known(manifests: Sequence[Manifest]) -> dict[Key, Manifest]:
    return {(m.name, m.version): m for m in manifests}


# Mutations caught: contents or numbers in a chain's name; no parents in it; the seed left out.
def test_a_chain_is_its_settings_back_to_the_first_parents() -> None:
    base, again, other = made("base", 1), made("base", 2), made("base", 3, seed=1)
    policies = [made("policy", i, parent) for i, parent in enumerate((base, again, other), 1)]
    found = chains(known([*policies, base, again, other]))
    assert found["base", 1] == found["base", 2] != found["base", 3]
    assert found["policy", 1] == found["policy", 2] != found["policy", 3]
    assert found["policy", 1] != found["base", 1]


def test_a_model_from_outside_tells_chains_apart_and_one_of_the_store_does_not() -> None:
    base, newer = made("base", 1), made("base", 2)
    outside = [made("policy", i, models=[{"role": "reward", "id": f"org/{i}"}]) for i in (1, 2)]
    first, second = chains(known(outside)).values()
    assert first != second
    # Mutation caught: the reference of a model that is a parent, which changes each time.
    inside = [
        made("policy", i, parent, models=[{"role": "base", "id": f"base@v{i}"}])
        for i, parent in enumerate((base, newer), 1)
    ]
    found = chains(known([base, newer, *inside]))
    assert found["policy", 1] == found["policy", 2]


def test_a_parent_that_nobody_knows_is_told_by_its_content() -> None:
    first, second = made("base", 1), made("base", 2)
    found = chains(known([made("policy", 1, first), made("policy", 2, second)]))
    assert found["policy", 1] != found["policy", 2]


def test_a_history_of_thousands_is_no_recursion() -> None:
    links = [made("prefs", 1)]
    while len(links) < 3000:
        links.append(made("prefs", len(links) + 1, links[-1]))
    assert len(set(chains(known(links[::-1])).values())) == 3000


# Mutation caught: an evaluation that a report was made of stands for nothing.
def test_what_nothing_was_made_of_stands_for_itself_and_so_does_an_evaluation() -> None:
    base = made("base", 1)
    evaluation = made("evaluation", 1, base, kind="evaluation")
    report = made("report", 1, evaluation, kind="report")
    unfinished = made("policy", 1, base)
    assert ends(known([base, evaluation, report, unfinished])) == {
        ("evaluation", 1),
        ("report", 1),
        ("policy", 1),
    }
