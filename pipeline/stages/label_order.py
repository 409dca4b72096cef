"""Order items for labelling by how unsure a reward model, or an ensemble, is of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pipeline.labelling.items import Item
from pipeline.modeling.roles import load_policy
from pipeline.modeling.tokens import encode_completions, encode_prompts
from pipeline.scoring.build_scorer import build
from pipeline.scoring.least_sure import least_sure
from pipeline.scoring.load_for_stage import scorer_context
from pipeline.workflow.stage import Run


def priorities(run: Run, items: Sequence[Item], sources: object) -> dict[str, float]:
    """The priority of each item without a known answer, lowest first.

    Args:
        sources: as in ``ppo.reward``; several models are an ensemble.
    Raises:
        ConfigError, ModelError, StoreError: see :func:`pipeline.scoring.build_scorer.build`.
    """
    model, tokenizer = load_policy(*run.base)
    scorer = build(sources, scorer_context(run, model, tokenizer, model.device), key="label.reward")
    by_size: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        if item.gold is None:
            by_size[len(item.completions)].append(item)
    priority: dict[str, float] = {}
    for group in by_size.values():
        prompt_ids = encode_prompts(tokenizer, [i.prompt for i in group])
        completion_ids = [encode_completions(tokenizer, list(i.completions)) for i in group]
        unsure = least_sure(scorer, prompt_ids, completion_ids, tokenizer)
        priority |= {item.id: -value for item, value in zip(group, unsure, strict=True)}
    return priority
