"""export-verl: write a PPO run as a directory that verl trains on, or say what verl would train instead."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from pipeline.base.cli import as_called
from pipeline.base.errors import ModelError, StoreError
from pipeline.base.files import disk_errors, expand_home, fsync, write_text
from pipeline.base.json_values import JsonObject
from pipeline.base.process import say
from pipeline.reporting.runs import is_policy
from pipeline.stages.handoff.verl_config import Handed, verl_config
from pipeline.stages.handoff.verl_keys import VERL, Refusal, check, key_table
from pipeline.stages.merge import merged_version, writers
from pipeline.store.draft import fsync_tree
from pipeline.store.parquet import arrow
from pipeline.store.store import Store, Version
from pipeline.store.version import ADAPTER_CONFIG
from pipeline.workflow.experiment import recorded
from pipeline.workflow.key_checks.unknown_and_mistyped import build
from pipeline.workflow.sections.ppo import PPOKeys

ADAPTER_FILES = ("adapter_model.safetensors", ADAPTER_CONFIG)
COMMAND = "python -m verl.trainer.main_ppo --config-path {out} --config-name verl handoff={out}"


def main(argv: list[str] | None = None) -> int:
    """Write the directory.

    Raises:
        PipelineError: there is no such run, verl cannot train it, or would train something else.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    policy = find_policy(store, args.run)
    settings = settings_of(policy)
    accepted = [key for words in args.accept for key in words.split(",") if key]
    started = any(p.role in ("start", "reference") for p in policy.manifest.parents)
    given_up = check(settings, started, accepted, policy.ref)
    out = Path(expand_home(str(args.out), "--out")).resolve()
    if out.exists():
        raise StoreError(str(out), "is there already.", "Name a new directory.")
    write(store, policy, settings, given_up, out)
    say("export-verl", f"wrote {out}, from {policy.ref}")
    for refusal in given_up:
        say("export-verl", f"given up: {refusal}; {refusal.counterpart.instead}")
    say("export-verl", f"train it with verl {VERL}: {COMMAND.format(out=out)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline export-verl"),
        description=f"Write a PPO run for verl {VERL}: prompts, base, policy, reward model, configuration.",
    )
    parser.add_argument("run", metavar="RUN", help="an experiment (demo), or a version of its policy")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the directory to make")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="KEY,...", help="settings of ppo to train without"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser


def find_policy(store: Store, text: str) -> Version:
    """The policy of an experiment, or the version that is named.

    Raises:
        StoreError: there is none, it is no adapter, or it is damaged.
    """
    names = store.names()
    version = store.resolve(text if text.partition("@")[0] in names or "/" in text else f"{text}-policy")
    if not is_policy(version) or version.manifest.kind != "adapter":
        what = f"is {version.made_as}, not a policy that is an adapter."
        raise StoreError(version.where, what, "Name an experiment, or a version of its policy.")
    if damage := version.damage():
        raise StoreError(version.where, f"is damaged ({damage[0]}).", "Make it again, or name another version.")
    return version


def settings_of(policy: Version) -> PPOKeys:
    """The settings of its run, with their defaults, and the length and temperature that it sampled with."""
    written = {k: v for k, v in recorded("ppo", policy.manifest.config).items() if k != "inputs"}
    stats = policy.manifest.stats
    measured = {key: stats[key] for key in ("response_length", "temperature") if stats.get(key) is not None}
    seed = {"seed": policy.manifest.seed or 0}
    return cast("PPOKeys", build(PPOKeys, {**seed, **written, **measured}, policy.ref, "ppo."))


def write(store: Store, policy: Version, settings: PPOKeys, given_up: Sequence[Refusal], out: Path) -> None:
    """Write all of it; the directory appears whole or not at all.

    Raises:
        PipelineError: an input is gone, a model does not fit, the disk.
    """
    prompts, reward = parent(store, policy, "prompts"), parent(store, policy, "reward")
    merged = merged_version(store, reward.ref)
    _, _, models = writers()
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # of a command that was killed
    with disk_errors(str(out)):
        try:
            staging.mkdir(parents=True)
            base = models.write_base(policy.path, staging / "base")
            (staging / "policy").mkdir()
            for name in ADAPTER_FILES:
                shutil.copyfile(policy.path / name, staging / "policy" / name)
            scale = models.write_reward(merged.path, staging / "reward")
            counts = write_prompts(prompts, base.start, staging / "prompts")
            lora = json.loads((policy.path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
            completion = cast("int", settings.response_length)
            longest = max(base.lengths(texts_of(prompts)), default=1)
            handed = Handed(
                name=policy.name,
                directory=str(out),
                prompts=counts["train"],
                longest=min(longest, base.positions - completion),
                completion=completion,
                lora=(lora["r"], lora["lora_alpha"], sorted(lora["target_modules"])),
            )
            config = verl_config(settings, handed)
            sources = {"policy": policy, "prompts": prompts, "reward": reward}
            _write_texts(staging, config, sources, given_up, scale, out)
            fsync_tree(staging)
            staging.rename(out)
            fsync(out.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def parent(store: Store, policy: Version, role: str) -> Version:
    """The version that the policy was trained on.

    Raises:
        StoreError: it is gone, or there was none.
    """
    for made_from in policy.manifest.parents:
        if made_from.role == role:
            return store.resolve(f"{made_from.name}@v{made_from.version}")
    raise StoreError(policy.where, f"was trained without {role}.", "Name a run of this program's ppo.")


def texts_of(prompts: Version) -> Iterator[str]:
    """Every prompt, of all splits that are written."""
    for split in ("train", held_out(prompts)):
        yield from (row["prompt"] for row in prompts.iter_rows(split))


def held_out(prompts: Version) -> str:
    """The split that verl validates on: the one that policies are chosen by, and without it the test prompts."""
    return "select" if prompts.has_split("select") else "test"


def write_prompts(prompts: Version, start: str, directory: Path) -> dict[str, int]:
    """Write the prompts with verl's five fields; returns how many of each file.

    Args:
        start: what stands for an empty prompt.
    """
    pa, pq = arrow()
    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", message),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
            ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), ("id", pa.string())])),
        ]
    )
    directory.mkdir()
    counts: dict[str, int] = {}
    for file, split in (("train", "train"), ("held_out", held_out(prompts))):
        rows = [
            {
                "data_source": prompts.name,
                "prompt": [{"role": "user", "content": row["prompt"] or start}],
                "ability": "continue",
                "reward_model": {"style": "model", "ground_truth": ""},
                "extra_info": {"split": split, "index": i, "id": row["id"]},
            }
            for i, row in enumerate(prompts.iter_rows(split))
        ]
        if not rows:
            raise ModelError(prompts.where, f"has no prompts in the split {split}.", "Bring some.")
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / f"{file}.parquet")
        counts[file] = len(rows)
    return counts


def _write_texts(
    directory: Path,
    config: JsonObject,
    sources: dict[str, Version],
    given_up: Sequence[Refusal],
    scale: JsonObject,
    out: Path,
) -> None:
    command = COMMAND.format(out=out)
    head = f"# For verl {VERL}: {command}\n# handoff= says where this directory is now.\n"
    body = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(directory / "verl.yaml", head + body)
    made_from: dict[str, Any] = {role: {"ref": v.ref, "id": v.id} for role, v in sources.items()}
    lost = {r.key: {"value": r.value, "instead": r.counterpart.instead} for r in given_up}
    record = {"verl": VERL, "from": made_from, "given_up": lost, "reward": scale}
    write_text(directory / "handoff.json", json.dumps(record, indent=2) + "\n")
    lines = [
        f"# {sources['policy'].ref}, for verl {VERL}",
        "",
        f"```\n{command}\n```",
        "",
        *(f"- {role}: {version.ref}" for role, version in sources.items()),
        *(f"- given up: {refusal}; {refusal.counterpart.instead}" for refusal in given_up),
        "",
        key_table(),
    ]
    write_text(directory / "README.md", "\n".join(lines) + "\n")
