"""merge: write a policy or a reward model as one whole model, for engines that load no adapters."""

from __future__ import annotations

import argparse
import dataclasses
import filecmp
import shutil
from pathlib import Path
from types import ModuleType
from typing import Literal

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, ModelError, StoreError
from pipeline.base.files import disk_errors, expand_home, fsync, read_json
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.reporting.runs import find_run
from pipeline.results.policy import Evaluation
from pipeline.results.reward import RewardMetrics, reward_metrics
from pipeline.store.draft import fsync_tree
from pipeline.store.model_card import adapter_card
from pipeline.store.store import Draft, Store, Version
from pipeline.store.version import ADAPTER_CONFIG
from pipeline.workflow.relocate import named_base, stored_base

FORMAT = 1
"""Raised when the same adapter gives other files; see ``FORMATS`` in pipeline/workflow/work_key.py."""


def main(argv: list[str] | None = None) -> int:
    """Make the merged version, and copy it where ``--out`` says.

    Raises:
        PipelineError: there is no such adapter, or merged it does not compute what the adapter does.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    gguf = None if args.gguf is None else _check_gguf(store, args.adapter, args.gguf)
    merged = merged_version(store, args.adapter)
    if args.out is not None:
        copy_out(merged, Path(expand_home(str(args.out), "--out")))
    if gguf is not None:
        convert(merged, gguf)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline merge"),
        description="Merge a policy or a reward model into its base, for engines that load no adapters.",
    )
    parser.add_argument(
        "adapter", metavar="ADAPTER", help="a version of one, such as demo-policy@v1 or demo-reward"
    )
    parser.add_argument("--out", type=Path, help="also copy the merged model into this directory")
    parser.add_argument(
        "--gguf", metavar="FILE", help="also write the merged policy as this GGUF file, for llama.cpp and Ollama"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser


def _check_gguf(store: Store, ref: str, file: str) -> Path:
    """Where the GGUF file goes.

    Raises:
        ConfigError: the name is not that of a GGUF file.
        ModelError: the adapter is not a policy's.
    """
    path = Path(expand_home(file, "--gguf"))
    if path.suffix != ".gguf" or path.is_dir():
        raise ConfigError("--gguf", f'"{file}" is not the name of a GGUF file.', "Write build/policy.gguf")
    adapter = store.resolve(ref)
    if kind_of(adapter) == "reward":
        mend = "Merge it without --gguf; docs/loaders.md says which engines take it."
        raise ModelError(adapter.where, "is a reward model, which llama.cpp does not read.", mend)
    return path


def merged_version(store: Store, ref: str) -> Version:
    """The merged version of the adapter ``ref``, made unless it is there.

    Raises:
        StoreError: there is no such version, or it is damaged.
        ModelError: it is not an adapter, or could not be merged.
    """
    adapter = store.resolve(ref)
    kind = kind_of(adapter)
    if kind is None:
        mend = "Name a policy or a reward model that is an adapter, such as demo-policy."
        raise ModelError(adapter.where, f"is {adapter.made_as}.", mend)
    if damage := adapter.damage():
        raise StoreError(adapter.where, f"is damaged ({damage[0]}).", "Make it again, or merge another version.")
    base = stored_base(adapter.path)
    name = f"{adapter.name}-merged"
    key = digest(["merge", adapter.id, str(adapter.number), base.id if base else None, FORMAT])
    if (made := store.find(name, key)) is not None:
        say("merge", f"up to date: {made.ref}")
        return made
    merging, _, _ = writers()
    source, revision = named_base(adapter.path)
    manifest = adapter.manifest
    parents = [(adapter, kind), *([(base, "base")] if base else [])]
    with store.draft(
        name, kind="model", stage="merge", key=key, parents=parents, config=manifest.config, seed=manifest.seed
    ) as draft:
        draft.models.extend(manifest.models)
        result = merging.merge(kind, adapter.path, source, revision, draft.path)
        draft.stats.update(manifest.stats, merged=dataclasses.asdict(result))
        _keep_beside(adapter, draft)
        if manifest.stage != "pull":  # how somebody else's was trained is not known
            tree = "\n".join(store.lineage(adapter).draw())
            metrics = metrics_of(store, adapter)
            card_kind = "merged policy" if kind == "policy" else "merged reward"
            draft.card = lambda made: adapter_card(made, metrics, tree, card_kind)
    say("merge", f"wrote {draft.version.ref}: {draft.version.path}")
    say(
        "merge",
        f"read again by a fresh process: logits at most {result.difference:.1e} from the adapter's in fp32"
        f"{f', {result.rounding:.1e} by rounding to {result.dtype}' if result.dtype != 'float32' else ''}; "
        f"the adapter moved the base's by {result.effect:.2g}",
    )
    return draft.version


def kind_of(adapter: Version) -> Literal["policy", "reward"] | None:
    """What an adapter is: of one that was pulled its config says it. None of any other version."""
    manifest = adapter.manifest
    if manifest.kind != "adapter":
        return None
    if manifest.stage == "pull":
        return "reward" if read_json(adapter.path / ADAPTER_CONFIG).get("task_type") == "SEQ_CLS" else "policy"
    kinds: dict[str, Literal["policy", "reward"]] = {"ppo": "policy", "reward": "reward"}
    return kinds.get(manifest.stage)


def writers() -> tuple[ModuleType, ModuleType, ModuleType]:
    """What writes models; it needs torch, which nobody waits for where nothing is to be written."""
    from pipeline.modeling.other_engines import gguf_writing, merging, verl_models

    return merging, gguf_writing, verl_models


def metrics_of(store: Store, adapter: Version) -> Evaluation | RewardMetrics | None:
    """A policy's newest evaluation, or a reward model's own figures; None without."""
    if adapter.manifest.stage == "reward":
        return reward_metrics(adapter.manifest.stats, adapter.ref)
    try:
        return find_run(store, adapter.ref).results
    except StoreError:
        return None


def _keep_beside(adapter: Version, draft: Draft) -> None:
    """Copy how a reward model's score is read and normalised."""
    if (scoring := adapter.path / "scoring.json").is_file():
        shutil.copyfile(scoring, draft.path / "scoring.json")


def convert(version: Version, path: Path) -> None:
    """Write a merged policy as the GGUF file ``path``, which appears whole or not at all.

    Raises:
        ModelError: it has no GGUF, or what was read of it is another model.
        StoreError: something else is there; the disk.
    """
    _, gguf_writing, _ = writers()
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.partial")
        try:
            written = gguf_writing.write_gguf(
                version.path, draft, version.name, version.manifest.governance.get("license")
            )
            if path.exists():
                if not filecmp.cmp(path, draft, shallow=False):
                    raise StoreError(str(path), "is there and holds something else.", "Name a new file.")
                say("merge", f"up to date: {path}")
                return
            fsync(draft)
            draft.rename(path)
            fsync(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    say("merge", f"wrote {path}: {written.architecture}, {written.dtype}, pre-tokenizer {written.pre}")
    say("merge", f"read again by transformers: logits at most {written.difference:.1e} apart in fp32")


def copy_out(version: Version, directory: Path) -> None:
    """Copy a version's files into ``directory``, which appears whole or not at all.

    Raises:
        StoreError: something else is there.
    """
    if directory.exists():
        problems = dataclasses.replace(version, path=directory).damage() if directory.is_dir() else ["a file"]
        if not problems:
            say("merge", f"up to date: {directory}")
            return
        raise StoreError(str(directory), f"is there and holds something else ({problems[0]}).", "Name a new one.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # of a command that was killed
    try:
        shutil.copytree(version.path, staging)
        fsync_tree(staging)
        staging.rename(directory)
        fsync(directory.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    say("merge", f"copied to {directory}")
