"""Every file of a data directory, damaged in every way: a command says so in one line, or goes on without it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import PipelineError
from pipeline.stages import doctor
from pipeline.stages.data import data as data_cli
from pipeline.store.checkpoints import Checkpoints
from pipeline.store.interrupted import Work, check, working
from pipeline.store.store import Store, Version


def publish(store: Store, name: str, kind: str, *parents: Version, **fields: Any) -> Version:
    with store.draft(name, kind=kind, stage=kind, key=name, parents=[(p, "base") for p in parents]) as draft:
        if kind == "preferences":
            draft.write_rows(
                "train", [{"id": str(i), "prompt": "p", "chosen": "c", "rejected": "r"} for i in range(9)]
            )
            votes = [{"id": "1", "annotator": "p_1", "choice": "a"}]
            draft.write_rows("train", votes, config="votes")
        else:
            (draft.path / "model.safetensors").write_bytes(name.encode() * 50)
            (draft.path / "metrics.jsonl").write_text('{"objective/kl": 1.0, "update": 1}\n')
        if fields:
            (draft.path / "adapter_config.json").write_text(json.dumps(fields))
        draft.stats.update({"verdict": "good", "deep": {"a": [1, 2]}})
        draft.models = [{"role": "base", "id": "org/x", "content": "0"}]
    return draft.version


WORK = Work("ppo", "x", 0, "key", {"ppo": {"kl_coef": 0.1}}, {"base": ["x-base@v000001", "id"]}, "", "1", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "data"
    store = Store(root)
    publish(store, "x-base", "model")
    prefs = publish(store, "x-preferences", "preferences")
    for _ in range(2):
        with store.draft("x-base", kind="model", stage="model") as draft:
            (draft.path / "model.safetensors").write_bytes(b"w")
    store.gc()
    base = draft.version
    policy = publish(store, "x-policy", "adapter", base, prefs, base_model_name_or_path=str(base.path), r=8)
    publish(store, "x-evaluation", "evaluation", policy)
    store.tag("x-policy", "good")
    with working(root / ".runs" / "x-ppo-1", WORK, fresh=False):
        for step in (1, 2):
            with Checkpoints(root / ".runs" / "x-ppo-1").writing(step) as path:
                (path / "state.json").write_text("{}")
    return root


def flipped(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "removed": lambda c, d: None,
    "emptied": lambda c, d: b"",
    "cut": lambda c, d: c[: len(c) // 2],
    "flipped": flipped,
    "garbage": lambda c, d: d.randbytes(200),
    "null": lambda c, d: b"null",
    "list": lambda c, d: b'[{"a": 1}]',
    "nested": lambda c, d: b"[" * 100_000,
    "huge number": lambda c, d: b'{"version": ' + b"9" * 5000 + b"}",
    "other types": lambda c, d: (
        c.replace(b'": "', b'": ["').replace(b'",\n', b'"],\n').replace(b": {", b": 3 or {")
    ),
    "numbers for texts": lambda c, d: b"".join(
        line if d.random() < 0.7 or b": " not in line else line.split(b": ")[0] + b": 7,\n"
        for line in c.splitlines(keepends=True)
    ),
}

COMMANDS: dict[str, Callable[[Path], Any]] = {
    "list": lambda root: data_cli.main(["list", "--root", str(root)]),
    "show": lambda root: data_cli.main(["show", "x-policy", "--root", str(root)]),
    "show a tag": lambda root: data_cli.main(["show", "x-policy@good", "--root", str(root), "--json"]),
    "diff": lambda root: data_cli.main(["diff", "x-preferences", "x-preferences@v1", "--root", str(root)]),
    "verify": lambda root: data_cli.main(["verify", "--root", str(root)]),
    "gc": lambda root: data_cli.main(["gc", "--dry-run", "--runs", "--root", str(root)]),
    "relocate": lambda root: data_cli.main(["relocate", "--root", str(root)]),
    "doctor": lambda root: doctor.main(["x", "--root", str(root)]),
    "find": lambda root: Store(root).find("x-policy", "x-policy"),
    "rows": lambda root: Store(root).resolve("x-preferences").rows(),
    "resume": lambda root: check(root / ".runs", root / ".runs" / "x-ppo-1", WORK, lambda key: False),
    "continue": lambda root: Checkpoints(root / ".runs" / "x-ppo-1").newest_intact(str),
    "publish": lambda root: publish(Store(root), "x-policy", "adapter"),
}

CHANGING = ("relocate", "find", "continue", "publish")


def cases(whole: Path, draw: random.Random) -> Iterator[tuple[Path, str, str]]:
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    for file in files:
        for damage in DAMAGES:
            for command in COMMANDS:
                yield file, damage, command
        yield file, "a directory", draw.choice(list(COMMANDS))


def tracebacks(whole: Path, directory: Path, share: float, seed: int) -> tuple[int, list[str]]:
    """(cases tried, those that ended in anything but a result or one line)."""
    draw = random.Random(seed)
    tried, wrong, fresh = 0, list[str](), False
    for file, damage, command in cases(whole, draw):
        if draw.random() > share:
            continue
        tried += 1
        root = directory / "data"
        if not fresh:
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(whole, root)
        path = root / file
        path.chmod(0o644)
        content = path.read_bytes()
        path.unlink()
        if damage == "a directory":
            path.mkdir()
        elif (changed := DAMAGES[damage](content, draw)) is not None:
            path.write_bytes(changed)
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                COMMANDS[command](root)
        except PipelineError as err:
            if "\n" in str(err) or len(str(err)) > 2000:
                wrong.append(f"{command}, {file} {damage}: {str(err)[:200]}")
        except Exception as err:
            wrong.append(f"{command}, {file} {damage}: {type(err).__name__}: {str(err)[:200]}")
        fresh = command not in CHANGING and damage != "a directory"
        if fresh:
            path.unlink(missing_ok=True)
            path.write_bytes(content)
    return tried, wrong


# Seen failing with: read_json and manifests that let RecursionError and too long numbers through.
@pytest.mark.thorough
def test_a_damaged_file_is_no_traceback(whole: Path, tmp_path: Path) -> None:
    tried, wrong = tracebacks(whole, tmp_path, share=0.05, seed=0)
    assert wrong == []
    assert tried > 100


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_damage_campaign(whole: Path, tmp_path: Path) -> None:
    tried, wrong = tracebacks(whole, tmp_path, share=0.5, seed=1)
    print(f"{tried} cases")
    assert wrong == []
