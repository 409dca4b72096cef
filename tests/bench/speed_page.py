"""Keep the figures of ``make bench WRITE=1`` in docs/speed.json, and write their table into docs/speed.md.

Every stage is kept with the processor on which it was last measured, so stages can be measured one at a time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.bench.targets import AT_LEAST, TARGETS

FIGURES, PAGE = Path("docs/speed.json"), Path("docs/speed.md")
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
# Stage, work, key of the speedup in fp32 and in bf16, of the ratio of memory in fp32 and in bf16.
ROWS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("ppo", "completions of one length", "speedup_fp32", "speedup_bf16", "memory_ratio_fp32", "memory_ratio_bf16"),
    ("ppo", "natural lengths", "speedup_natural_lengths_fp32", "speedup_natural_lengths", "", ""),
    ("ppo", "LoRA on the upper half", "speedup_trunk_fp32", "speedup_trunk_bf16", "", ""),
    ("ppo", "the demo's model", "speedup_demo_fp32", "speedup_demo_bf16", "", ""),
    (
        "smollm2", "an update of SmolLM2-135M's shape", "smollm2_speedup", "smollm2_speedup_bf16",
        "smollm2_memory_ratio", "smollm2_memory_ratio_bf16",
    ),
    (
        "reward", "prompts as long as completions", "reward_speedup", "reward_speedup_bf16", "memory_ratio_reward",
        "memory_ratio_reward_bf16",
    ),
    ("reward", "short prompts", "reward_speedup_short", "reward_speedup_short_bf16", "", ""),
    ("reward", "the demo's model", "reward_speedup_demo", "reward_speedup_demo_bf16", "", ""),
    ("sft", "LoRA", "sft_speedup", "sft_speedup_bf16", "memory_ratio_sft", "memory_ratio_sft_bf16"),
    ("sft", "the demo's model, from scratch", "sft_speedup_demo", "sft_speedup_demo_bf16", "", ""),
    (
        "collect", "completions of one length", "collect_speedup_fp32", "collect_speedup_bf16",
        "memory_ratio_collect", "memory_ratio_collect_bf16",
    ),
    ("collect", "natural lengths", "collect_speedup_natural_fp32", "collect_speedup_natural_bf16", "", ""),
    ("collect", "the demo's model", "collect_speedup_demo_fp32", "collect_speedup_demo_bf16", "", ""),
    (
        "collect", "the demo's model, natural lengths", "collect_speedup_demo_natural_fp32",
        "collect_speedup_demo_natural_bf16", "", "",
    ),
    ("evaluate", "scoring", "evaluate_speedup", "evaluate_speedup_bf16", "memory_ratio_evaluate", ""),
    ("evaluate", "scoring, the demo's model", "evaluate_speedup_demo", "evaluate_speedup_demo_bf16", "", ""),
)  # fmt: skip
STORE = {
    "store_publish": "publish 100 rows under a new name", "store_publish_nth": "publish the next of many versions",
    "store_list": "list all versions", "store_resolve": "resolve the latest",
    "store_find": "look for finished work that is not there", "store_verify": "verify a version of 100 rows",
}  # fmt: skip
STORE_ROWS = {"store_rows_publish": "publish", "store_rows_verify": "verify", "store_rows_read": "read"}
STARTUP = {
    "startup_python_s": "`python` alone", "startup_check_s": "one `--check`",
    "startup_second_make_s": "a second `make`, six stages with nothing to do",
    "startup_first_line_s": "`make sft` to its first line",
    "startup_first_make_s": "a first `make` of an experiment with next to no work, six stages",
}  # fmt: skip


def write_page(figures: dict[str, dict[str, Any]], machine: dict[str, Any], quick: bool) -> None:
    """Add the figures by stage to those kept, and write the table of all."""
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for stage, values in figures.items():
        place = {"processor": machine, "quick": quick}
        before = kept.get(stage, {})
        # A part of a stage joins the others that were measured at the same place.
        kept[stage] = (before if place.items() <= before.items() else place) | values
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    made = f"{BEGIN}\n{page(kept)}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: made, PAGE.read_text(), flags=re.DOTALL))


def page(kept: dict[str, Any]) -> str:
    """The tables of speedups, of the store and of start-up, as far as they were measured, and on what."""
    lines = [
        "| stage | work | fp32 | bf16 | memory, fp32 | memory, bf16 |",
        "|---|---|---:|---:|---:|---:|",
        *(
            f"| `{stage}` | {work} | {' | '.join(ratio(kept[stage], key) for key in keys)} |"
            for stage, work, *keys in ROWS
            if stage in kept
        ),
    ]
    if store := kept.get("store"):
        lines += ["", "| store | ms | over plain |", "|---|---:|---:|"]
        lines += [f"| {what} | {store[f'{k}_ms']:,} | {store[f'{k}_ratio']:.3g} |" for k, what in STORE.items()]
        rows, versions = store["store_rows"], store["store_versions"]
        for key, what in STORE_ROWS.items():
            lines.append(
                f"| {what} {rows:,} rows | {store[f'{key}_s'] * 1000:,.0f} | {store[f'{key}_ratio']:.3g} |"
            )
        lines += [
            "",
            f"With {versions:,} versions. Memory of publishing: {store['store_memory_ratio']} of plain's.",
        ]
    if startup := kept.get("startup"):
        lines += ["", "| start-up | seconds |", "|---|---:|"]
        lines += [f"| {what} | {startup[key]:.2f} |" for key, what in STARTUP.items() if key in startup]
    return "\n".join([*lines, "", *target_table(kept), "", *measured_on(kept)])


def target_table(kept: dict[str, Any]) -> list[str]:
    """A row for every figure that has a target."""
    figures = {key: value for values in kept.values() for key, value in values.items()}
    lines = ["| figure | target | measured | |", "|---|---:|---:|---|"]
    for target in TARGETS:
        figure = figures.get(target.key)
        verdict = "not measured" if figure is None else "met" if target.met_by(figure) else "missed"
        lines.append(f"| `{target.key}` | {target} | {'' if figure is None else f'{figure:.3g}'} | {verdict} |")
    return lines


def ratio(figures: dict[str, Any], key: str) -> str:
    """The figure with its target; empty where it was not measured."""
    if key not in figures:
        return ""
    target = AT_LEAST.get(key)
    return f"{figures[key]:.3g}" + (f" (of {target:g})" if target else "")


def measured_on(kept: dict[str, Any]) -> list[str]:
    """A sentence for every machine, with the stages that were measured there."""
    stages: dict[str, list[str]] = {}
    for stage, values in kept.items():
        machine = values["processor"]
        cores = f"{machine['cores']} core{'s' if machine['cores'] > 1 else ''}"
        how = ", at the quick shapes" if values["quick"] else ""
        place = f"{machine['name']} ({' '.join(machine['instructions'])}), {cores}{how}"
        stages.setdefault(place, []).append(f"`{stage}`")
    return [f"{', '.join(names)}: {place}." for place, names in stages.items()]
