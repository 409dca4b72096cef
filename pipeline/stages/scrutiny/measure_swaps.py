"""Measure the lines of a file of swaps: scores of each group's text, what base and policy write, and the gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.base.records import digest
from pipeline.evaluation.policy.swap_gaps import comparisons_of, group_gaps
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.roles import Role
from pipeline.modeling.tokens import encode_completions, encode_prompts
from pipeline.modeling.types import Tokenizer
from pipeline.results.fairness import MEASURES, Swapped
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.scoring.swaps.swap_file import Line, unread_words
from pipeline.stages.evaluate.sampled_sides import Sampler

ROWS = {
    **dict.fromkeys(("id", "attribute", "group", "prompt", "completion"), "string"),
    "line": "int32",
    "draw": "int32",
    **dict.fromkeys(("base_completion", "policy_completion"), "string"),
    **dict.fromkeys(MEASURES, "double"),
}
"""Of the split ``test``: a row per line, group and draw. What was not measured is null."""

SEED = 0
Row = dict[str, Any]
Values = dict[str, np.ndarray[Any, np.dtype[np.float64]]]
"""(groups, lines, draws) by measure; the score of the given completion once for each draw."""


@dataclass(frozen=True)
class Models:
    """The models of a policy, and how it reads a prompt."""

    base: Role
    policy: Role
    tokenizer: Tokenizer
    scorer: Scorer | None
    sampler: Sampler | None
    render: Callable[[str], str]


def measure_swaps(models: Models, swaps: Sequence[Line], draws: int) -> tuple[list[Values], list[Row]]:
    """What is measured on each line, by line, and the rows of the version.

    A line's groups are sampled with the same random numbers, so that what differs comes from the swap.
    """
    values, rows = list[Values](), list[Row]()
    for number, line in enumerate(swaps):
        prompts = [models.render(prompt) for prompt in line.prompts]
        own: Values = {}
        if models.scorer is not None and line.completions is not None:
            scores = models.scorer(_samples(models.tokenizer, prompts, line.completions))
            own["reward"] = scores.double().numpy()[:, None]
        texts: dict[str, list[str]] = {}
        if draws and models.sampler is not None:
            for side, role in (("base", models.base), ("policy", models.policy)):
                figures, texts[side] = _written(models.sampler, role, prompts, draws, number)
                own |= {f"{side}_{name}": values.reshape(len(prompts), draws) for name, values in figures.items()}
        values.append(own)
        for g, group in enumerate(line.groups):
            for draw in range(max(draws, 1)):
                figures = {name: float(of[g, draw % of.shape[1]]) for name, of in own.items()}
                written = {f"{side}_completion": of[g * draws + draw] for side, of in texts.items()}
                given = line.completions and line.completions[g]
                row = dict.fromkeys(ROWS) | {"line": number, "attribute": line.attribute, "group": group}
                row |= {"prompt": prompts[g], "completion": given, "draw": draw} | written | figures
                rows.append(row | {"id": digest([number, group, draw, prompts[g], *written.values()])})
    return values, rows


def attributes(
    tokenizer: Tokenizer, render: Callable[[str], str], swaps: Sequence[Line], values: Sequence[Values]
) -> dict[str, Any]:
    """The gaps of each attribute, and how many of them there are."""
    by_name = {
        line.attribute: [i for i, one in enumerate(swaps) if one.attribute == line.attribute] for line in swaps
    }
    read: dict[str, tuple[list[int], list[str], int]] = {}
    for name, numbers in by_name.items():
        kept = [
            i for i in numbers if _differs(tokenizer, [render(p) for p in swaps[i].prompts], swaps[i].completions)
        ]
        words = list(dict.fromkeys(w for i in numbers for own in swaps[i].words for w in own))
        read[name] = kept, unread_words(tokenizer, words), len(words)
    measures = {name: _measures([values[i] for i in kept]) for name, (kept, *_) in read.items()}
    useful = [name for name, (kept, unread, words) in read.items() if kept and 2 * len(unread) <= words]
    total = sum(len(measures[name]) * comparisons_of(swaps[by_name[name][0]].groups) for name in useful)
    results: dict[str, Swapped] = {}
    for name, (kept, unread, words) in read.items():
        groups = swaps[by_name[name][0]].groups
        gaps = {
            measure: group_gaps(
                [[own[g].mean() for g in range(len(groups))] for own in (values[i][measure] for i in having)],
                groups,
                [swaps[i].template for i in having],
                total,
                SEED,
            )
            for measure in measures[name]
            if (having := [i for i in kept if measure in values[i]])
        }
        results[name] = Swapped(
            groups=list(groups),
            lines=len(by_name[name]),
            templates=len({swaps[i].template for i in kept}),
            same=len(by_name[name]) - len(kept),
            unread=unread,
            words=words,
            gaps=gaps,
        )
    return {"attributes": results, "comparisons": total}


def _measures(values: Sequence[Values]) -> list[str]:
    return [measure for measure in MEASURES if any(measure in own for own in values)]


def _differs(tokenizer: Tokenizer, prompts: Sequence[str], completions: Sequence[str] | None) -> bool:
    """Whether every group's text has ids of its own."""
    ids = [tuple(row) for row in encode_prompts(tokenizer, prompts)]
    more = encode_completions(tokenizer, completions) if completions is not None else [[]] * len(ids)
    return len({(a, tuple(b)) for a, b in zip(ids, more, strict=True)}) == len(ids)


def _samples(tokenizer: Tokenizer, prompts: Sequence[str], completions: Sequence[str]) -> Samples:
    ids = encode_prompts(tokenizer, prompts), encode_completions(tokenizer, completions)
    return Samples(*ids, tokenizer, list(prompts))


def _written(
    sampler: Sampler, side: Role, prompts: Sequence[str], draws: int, number: int
) -> tuple[Mapping[str, np.ndarray[Any, np.dtype[np.float64]]], list[str]]:
    """Figures and texts of ``draws`` completions of each prompt, those of one prompt together."""
    width = sampler.task.completion_tokens
    noise = uniforms(draws, width, torch.Generator().manual_seed(SEED + number))
    each = [prompt for prompt in prompts for _ in range(draws)]
    samples, sampled = sampler.sample(side, each, noise.repeat(len(prompts), 1))
    figures = {"length": sampled.lengths.double().cpu().numpy()}
    if sampler.scorer is not None:
        figures["score"] = sampler.scorer(samples).double().numpy()
    if (gold := sampler.task.gold_scores(each, samples.completions)) is not None:
        figures["gold_score"] = np.asarray(gold, np.float64)
    return figures, samples.completions
