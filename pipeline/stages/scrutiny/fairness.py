"""fairness: swap an attribute of a person in prompts; measure how scores and completions change."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, ModelError
from pipeline.base.files import expand_home, sha256_file
from pipeline.base.process import quiet, say
from pipeline.base.records import digest
from pipeline.base.terminal_text import escape_for_terminal, put, put_json
from pipeline.modeling.tokens import template_render
from pipeline.modeling.types import Device
from pipeline.reporting.runs import is_policy
from pipeline.results.fairness import MEASURES, Fairness
from pipeline.results.stats import from_json, to_json
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.load_for_stage import load_models
from pipeline.scoring.scorer import Scorer
from pipeline.scoring.swaps.swap_file import OWN, read_swaps
from pipeline.stages.evaluate.sampled_sides import Sampler
from pipeline.stages.scrutiny.measure_swaps import ROWS, SEED, Models, attributes, measure_swaps
from pipeline.statistics.spelling import interval
from pipeline.store.store import Store, Version
from pipeline.tasks import load_task, with_template_of
from pipeline.workflow.experiment import recorded
from pipeline.workflow.relocate import named_base

FORMAT = 1
"""Raised when the same models and swaps give other stats; see ``FORMATS`` in pipeline/workflow/work_key.py."""


def main(argv: list[str] | None = None) -> int:
    """Swap, measure, and print the gaps.

    Raises:
        PipelineError: there is no such policy, its models cannot be loaded, or the file of swaps is wrong.
    """
    args = _parser().parse_args(argv)
    if args.draws < 0:
        raise ConfigError("--draws", f"is {args.draws}, not 0 or more.")
    quiet()
    version = measured(Store(args.root), args)
    fairness = from_json(Fairness, version.manifest.stats, version.ref)
    if args.json:
        put_json({"version": version.ref, **to_json(fairness)})
    else:
        put("\n".join(lines(fairness)))
    return 0


def measured(store: Store, args: argparse.Namespace) -> Version:
    """The ``fairness`` version of a policy with these swaps, made unless it is there.

    Raises:
        PipelineError: see :func:`main`.
    """
    policy = _policy(store, args.policy)
    reward = next((store.resolve(p.ref) for p in policy.manifest.parents if p.role == "reward"), None)
    path = OWN if args.swaps is None else Path(expand_home(str(args.swaps), "--swaps"))
    swaps = read_swaps(path)
    if reward is None and not args.draws:
        mend = "Leave --draws out, to look at what it writes."
        raise ConfigError(policy.where, "has no reward model of its own, and --draws 0 samples nothing.", mend)
    temperature = float(recorded("ppo", policy.manifest.config).get("temperature") or 1.0)
    key = digest(["fairness", policy.id, reward and reward.id, sha256_file(path), args.draws, temperature, FORMAT])
    name = f"{policy.name.removesuffix('-policy')}-fairness"
    if (made := store.find(name, key)) is not None:
        say("fairness", f"up to date: {made.ref}")
        return made
    models = _load(store, policy, reward, temperature)
    values, rows = measure_swaps(models, swaps, args.draws)
    fairness = Fairness(
        swaps=path.name, draws=args.draws, level=0.95, **attributes(models.tokenizer, models.render, swaps, values)
    )
    parents = [(policy, "policy"), *([(reward, "reward")] if reward else [])]
    config = {"swaps": path.name, "sha256": sha256_file(path), "draws": args.draws, "temperature": temperature}
    with store.draft(
        name, kind="fairness", stage="fairness", key=key, parents=parents, config=config, seed=SEED
    ) as draft:
        draft.write_rows("test", rows, schema=ROWS)
        draft.stats.update(to_json(fairness))
    say("fairness", f"wrote {draft.version.ref}")
    return draft.version


def lines(fairness: Fairness) -> Iterator[str]:
    """The gaps as lines of a terminal."""
    for name, swapped in fairness.attributes.items():
        yield (
            f"{escape_for_terminal(name)}: {', '.join(map(escape_for_terminal, swapped.groups))}; "
            f"{swapped.lines} lines, {swapped.templates} templates"
        )
        if swapped.same:
            yield f"  left out, as the tokenizer makes the same of several groups: {swapped.same} lines"
        if swapped.unread:
            few = ", ".join(map(escape_for_terminal, swapped.unread[:8]))
            yield f"  no words to this model: {len(swapped.unread)} of {swapped.words} ({few})"
        if swapped.means_nothing:
            yield "  NOTHING CAN BE SAID: the model does not know most of what was swapped."
            yield ""
            continue
        for measure, by_group in swapped.gaps.items():
            for group, gap in by_group.items():
                sure = "  sure" if gap.sure else ""
                what = f"{group}: {MEASURES.get(measure, measure)}"
                yield f"  {escape_for_terminal(what):<58}{interval(gap, signed=True)}{sure}"
        yield ""
    yield (
        "A gap is a group's mean less that of the other groups, over templates, 95 %. Of "
        f"{fairness.comparisons} gaps about {0.05 * fairness.comparisons:.1f} exclude 0 by chance; "
        '"sure" allows for their number (Bonferroni). A sure gap may still be too small to matter.'
    )


def _policy(store: Store, text: str) -> Version:
    names = store.names()
    version = store.resolve(text if text.partition("@")[0] in names or "/" in text else f"{text}-policy")
    if not is_policy(version):
        what = f"is {version.made_as}, not a policy."
        raise ModelError(version.where, what, "Name one, such as demo-policy@v1.")
    return version


def _load(store: Store, policy: Version, reward: Version | None, temperature: float) -> Models:
    """The policy, its base, its reward model and its task."""
    device = cast("Device", PartialState().device)
    source = _base_of(store, policy)
    base, role, tokenizer = load_models(source, policy.path, device, torch.float32)
    where, config = policy.where, policy.manifest.config
    context = ScorerContext(where, device, store.find_version, base.model, tokenizer, base=source)
    scorer = None if reward is None else build(str(reward.path), context, key="reward")
    args = with_template_of("@".join(filter(None, source)), dict(config.get("task_args") or {}))
    task = load_task(str(config["task"]), args, where)
    sampler = Sampler(tokenizer, task, cast("Scorer", scorer), {}, temperature, 64)
    return Models(base, role, tokenizer, scorer, sampler, _render(args))


def _base_of(store: Store, policy: Version) -> tuple[str, str | None]:
    if (policy.path / "adapter_config.json").is_file():
        return named_base(policy.path)
    parent = next((p for p in policy.manifest.parents if p.role == "base"), None)
    if parent is not None:
        return str(store.resolve(parent.ref).path), None
    model = next((m for m in policy.manifest.models if m.get("role") == "base"), None)
    if model is None:
        raise ModelError(policy.where, "its manifest names no base.", "Train it again: make ppo")
    return str(model["id"]), model.get("commit") or model.get("revision")


def _render(args: Mapping[str, Any]) -> Callable[[str], str]:
    """How the task writes a request as a prompt: through its chat template, if it has one."""
    template, system = args.get("chat_template"), args.get("system")
    if template is None:
        return str
    render = template_render(str(template))
    before = [] if system is None else [{"role": "system", "content": str(system)}]
    return lambda prompt: render([*before, {"role": "user", "content": prompt}], "")[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline fairness"),
        description="Swap a name, a pronoun or a group in prompts and completions, and compare the reward model's "
        "scores and what base and policy write.",
    )
    parser.add_argument("policy", metavar="POLICY", help="such as demo-policy@v1, or an experiment")
    parser.add_argument("--swaps", metavar="FILE", help="your own swaps (docs/screening.md); TSV, CSV, JSONL ...")
    parser.add_argument(
        "--draws", type=int, default=2, help="completions of each prompt and side (2); 0: scores only"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser
