"""Bad input ends in one clear line and exit status 2, and nothing that was there is lost."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.cli import run_cli
from pipeline.base.errors import PipelineError
from pipeline.workflow.config import load_config
from pipeline.workflow.stage import Planner
from tests.stages.conftest import MINI, Project

GOOD = [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(40)]


def line_of(project: Project, stage: str, *overrides: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line the command prints; asserts that it is one and that the status is 2."""
    import importlib

    with pytest.raises(SystemExit) as exit_:
        run_cli(importlib.import_module(f"pipeline.{stage}").main, ["--config", str(project.config), *overrides])
    lines = [x for x in capsys.readouterr().err.splitlines() if x.strip() and "%|" not in x]  # less progress bars
    assert exit_.value.code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def write_rows(project: Project, rows: list[Any], name: str = "mine.jsonl") -> Path:
    path = project.root / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def replay(project: Project, path: Path, **more: Any) -> None:
    project.write(
        task="prompts",
        task_args={"dataset": str(path), "corpus_column": "chosen", "completion_tokens": 8},
        collect={"comparisons": None, "annotator": "replay", "annotator_args": {"dataset": str(path)}, **more},
        sft={**MINI["sft"], "per_device_train_batch_size": 4, "max_steps": 2},
    )


@pytest.mark.parametrize(
    ("stage", "override", "said"),
    [
        ("sft", "ppoo.kl_coef=1", 'unknown key "ppoo". Did you mean "ppo"?'),
        ("sft", "sft.learning_rat=1", 'unknown key "sft.learning_rat". Did you mean "sft.learning_rate"?'),
        ("sft", "sft.learning_rate=fast", "sft.learning_rate = 'fast' should be"),
        ("sft", "sft.n_layer=two", "sft.n_layer = 'two' should be a whole number"),
        ("sft", "sft.n_embd=33", "n_embd 33 does not divide by n_head 2"),
        ("sft", "seed=abc", "seed = 'abc' should be a whole number"),
        ("sft", "task=poems", 'task "poems" is not known'),
        ("sft", "task_args.corpus_siz=3", "task_args.corpus_siz"),
        ("sft", "nonsense", "'nonsense' is not key=value"),
    ],
)
def test_config(project: Project, stage: str, override: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert said in line_of(project, stage, override, capsys=capsys)
    assert not project.store.names()


@pytest.mark.parametrize(
    ("stage", "override", "said"),
    [
        ("collect", "collect.comparisons=many", "should be a whole number"),
        ("collect", "collect.annotator=oracel", 'annotator "oracel" is not known'),
        ("collect", "collect.annotator_args={flip: 0.7}", "flip"),
        ("collect", "task_args.completion_tokens=999", "do not fit a model with 128 positions"),
        ("reward", "reward.lora_target_modules=[q_proj]", "c_attn, c_fc, c_proj"),
        ("reward", "reward.per_device_train_batch_size=500", "are too few for a batch of 500"),
        ("ppo", "ppo.num_mini_batches=3", "does not divide into num_mini_batches 3"),
        ("ppo", "ppo.inputs={reward: mini-reward@v9}", "v000009"),
        (
            "ppo",
            "ppo.inputs={rewards: mini-reward@v1}",
            '"rewards" is not read by ppo. It reads: base, prompts, reward',
        ),
        ("evaluate", "evaluate.prompts=1", "evaluate.prompts = 1 should be 2 or more"),
    ],
)
def test_settings_of_later_stages(
    finished: Project, tmp_path: Path, stage: str, override: str, said: str, capsys: pytest.CaptureFixture[str]
):
    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    # A changed task option changes the base too; name it, so that collect gets as far as its own complaint.
    extra = ["collect.inputs={base: mini-base@v1}"] if override.startswith("task_args") else []
    assert said in line_of(project, stage, override, *extra, capsys=capsys)
    assert project.latest("policy").number == 1


def test_missing_stage_names_its_command(project: Project, capsys: pytest.CaptureFixture[str]):
    assert "Run: make sft CONFIG=" in line_of(project, "collect", capsys=capsys)


def test_missing_config(project: Project, capsys: pytest.CaptureFixture[str]):
    project.config.unlink()
    assert "no such config file" in line_of(project, "sft", capsys=capsys)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*GOOD, "{broken"], "mine.jsonl:41"),
        ([], "mine.jsonl"),
    ],
    ids=["broken line", "empty file"],
)
def test_rows(project: Project, rows: list[Any], said: str, capsys: pytest.CaptureFixture[str]):
    replay(project, write_rows(project, rows))
    assert said in line_of(project, "sft", capsys=capsys)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "chosen": "x"}, ("mine.jsonl:41", "no rejected")),
        ({"prompt": "q", "chosen": "", "rejected": "x"}, ("mine.jsonl:41", "empty chosen")),
        ({"prompt": "q", "chosen": "x", "rejected": "x"}, ("mine.jsonl:41", "chosen equals rejected")),
    ],
    ids=["missing column", "empty string", "equal"],
)
def test_preferences(
    finished: Project, project: Project, row: Any, said: tuple[str, str], capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(finished.root / "data", project.root / "data")
    mine = write_rows(project, [*GOOD, row])
    replay(project, write_rows(project, GOOD, "prompts.jsonl"), inputs={"base": "mini-base@v1"})
    line = line_of(project, "collect", f"collect.annotator_args.dataset={mine}", capsys=capsys)
    assert all(part in line for part in (*said, "on_bad_row: skip")), line


def test_rows_that_are_not_utf8(project: Project, capsys: pytest.CaptureFixture[str]):
    path = project.root / "mine.jsonl"
    path.write_bytes(b'{"prompt": "caf\xe9"}\n')
    replay(project, path)
    assert "UTF-8" in line_of(project, "sft", capsys=capsys)


def test_missing_file(project: Project, capsys: pytest.CaptureFixture[str]):
    replay(project, project.root / "nowhere.jsonl")
    assert "nowhere.jsonl" in line_of(project, "sft", capsys=capsys)


def test_a_split_that_filtering_empties(finished: Project, project: Project, capsys: pytest.CaptureFixture[str]):
    prompts = write_rows(project, GOOD, "prompts.jsonl")
    ties = write_rows(project, [{**r, "tie": True} for r in GOOD])
    shutil.copytree(finished.root / "data", project.root / "data")
    replay(project, prompts, annotator_args={"dataset": str(ties)}, inputs={"base": "mini-base@v1"})
    said = line_of(project, "collect", capsys=capsys)
    assert "would hold no preference" in said
    assert "40 ties" in said


def test_one_prompt_can_be_split_by_completion(finished: Project, project: Project):
    prompts = write_rows(project, GOOD, "prompts.jsonl")
    same = write_rows(project, [{**r, "prompt": "Something funny:"} for r in GOOD])
    shutil.copytree(finished.root / "data", project.root / "data")
    more = {"split_by": "completion", "test_share": 0.4, "inputs": {"base": "mini-base@v1"}}
    replay(project, prompts, **{**more, "annotator_args": {"dataset": str(same)}})
    assert project.run("collect") == 0
    found = project.latest("preferences")
    texts = [{t for r in found.rows(s) for t in (r["chosen"], r["rejected"])} for s in ("train", "test")]
    assert texts[0]
    assert texts[1]
    assert not texts[0] & texts[1]
    assert found.manifest.stats["straddling_the_split"] == 40 - len(found.rows("train")) - len(found.rows("test"))


def test_a_base_that_is_no_causal_lm(project: Project, capsys: pytest.CaptureFixture[str]):
    from transformers import BertConfig, BertForSequenceClassification

    tiny = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForSequenceClassification(tiny).save_pretrained(project.root / "bert")
    project.write(base_model=str(project.root / "bert"), sft=None)
    assert "BertForSequenceClassification, not a causal language model" in line_of(
        project, "collect", capsys=capsys
    )


def test_a_base_directory_that_is_not_there(project: Project, capsys: pytest.CaptureFixture[str]):
    project.write(base_model="./no/such/model", sft=None)
    assert "no such directory" in line_of(project, "collect", capsys=capsys)


def test_a_reward_adapter_of_another_base(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    for stage in ("sft", "collect"):
        project.run(stage, "seed=1")
    chosen = "ppo.inputs={reward: mini-reward@v1}"
    assert "was trained on another base" in line_of(project, "ppo", "seed=1", chosen, capsys=capsys)


def test_a_corrupt_version_is_not_used(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    shard = project.latest("preferences").path / "data" / "train-00000-of-00001.parquet"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-7] + b"garbage")
    with pytest.raises(PipelineError, match="does not exist for these settings"):
        Planner(load_config(project.config), project.store).run_of("reward")
    assert "mini-preferences@v000001" in capsys.readouterr().err
    # Collecting again makes a sound one beside it.
    assert project.run("collect") == 0
    assert project.latest("preferences").number == 2


def test_a_data_directory_that_cannot_be_written(project: Project, capsys: pytest.CaptureFixture[str]):
    (project.root / "data").write_text("a file where the directory should be")
    assert str(project.root / "data") in line_of(project, "sft", capsys=capsys)


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """RLIMIT_FSIZE stands in for a full disk: every write past it fails."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    before = sorted(p for p in (tmp_path / "data").rglob("v*") if p.is_dir())
    with files_no_larger_than(4096):
        said = line_of(project, "collect", "collect.comparisons=60", capsys=capsys)
    assert "File too large; nothing was published" in said
    assert sorted(p for p in (tmp_path / "data").rglob("v*") if p.is_dir()) == before


# Catches: columns that nobody reads dropped without a word; lines that are said and not stored.
def test_what_was_done_to_rows_is_said_and_stored(
    finished: Project, project: Project, capsys: pytest.CaptureFixture[str]
):
    prompts = write_rows(project, GOOD, "prompts.jsonl")
    rows = [{"system": "Be kind.", **r, "chosen": f"{r['prompt']} {r['chosen']}"} for r in GOOD]
    rows = [{**r, "rejected": f"{r['prompt']} {r['rejected']}"} for r in rows]
    mine = write_rows(project, rows)
    shutil.copytree(finished.root / "data", project.root / "data")
    replay(project, prompts, annotator_args={"dataset": str(mine)}, inputs={"base": "mini-base@v1"})
    assert project.run("collect") == 0
    said = capsys.readouterr().out
    notices = project.latest("preferences").manifest.stats["notices"]
    assert len(notices) == 2
    assert notices[0].startswith("columns not used: system (columns: {system: system}")
    assert notices[1].endswith("repeated it: 40 rows")
    assert all(f"mine.jsonl: {line}" in said for line in notices)
    assert {r["chosen"] for r in project.latest("preferences").rows("train")} <= {" " + r["chosen"] for r in GOOD}
    # Nor is it claimed that nobody had to be asked.
    governance = project.latest("preferences").manifest.governance
    assert governance["consent"] == "unknown: imported, and nobody has said what people agreed to"


# Mutation caught: the votes left with the ids of the texts before.
def test_what_is_imported_is_scrubbed_on_request(finished: Project, project: Project):
    mine = write_rows(project, [{**r, "chosen": f"{r['chosen']} a{i}@example.com"} for i, r in enumerate(GOOD)])
    shutil.copytree(finished.root / "data", project.root / "data")
    prompts = write_rows(project, GOOD, "prompts.jsonl")
    replay(project, prompts, annotator_args={"dataset": str(mine)}, inputs={"base": "mini-base@v1"}, scrub=True)
    assert project.run("collect") == 0
    made = [project.latest(role) for role in ("comparisons", "preferences")]
    assert all("@example" not in str(list(version.iter_all())) for version in made)
    assert {row["chosen"].rpartition(" ")[2] for row in made[1].rows("train")} == {"<EMAIL_1>"}
    assert [version.manifest.stats["personal_data_replaced"] for version in made] == [{"email": len(GOOD)}] * 2
    comparisons = {row["id"] for row in made[0].rows("train")}
    assert {row["comparison_id"] for row in made[1].rows("train", "votes")} <= comparisons


# Seen failing with: the base published with exit 0, its weights NaN (weight_decay: .nan did so; a rate too high
# for half precision does). Here the optimiser itself spoils them, one step before the last logged one or after it.
@pytest.mark.thorough
@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
@pytest.mark.parametrize("logged", [True, False], ids=["seen in training", "seen before publishing"])
def test_weights_that_are_no_numbers_are_never_published(
    stage: str, logged: bool, finished: Project, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    import torch

    from pipeline.trainers import callbacks

    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    step = torch.optim.AdamW.step

    def spoil(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = step(self, *args, **kwargs)
        with torch.no_grad():
            self.param_groups[0]["params"][0].view(-1)[0] = float("nan")
        return out

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    if not logged:
        monkeypatch.setattr(callbacks.StopDiverged, "on_log", lambda *_, **__: None)
    before = {name: len(project.store.versions(name)) for name in project.store.names()}
    capsys.readouterr()
    few = "ppo.total_episodes=16" if stage == "ppo" else f"{stage}.logging_steps=1"
    said = line_of(project, stage, few, f"{stage}.weight_decay=0.5", capsys=capsys)
    assert ("training has diverged" in said) == logged, said
    assert "hold NaN or infinity. Lower" in said, said
    assert before == {name: len(project.store.versions(name)) for name in project.store.names()}


# Seen failing with: an untrained model published with exit 0.
@pytest.mark.parametrize(
    ("stage", "overrides", "said"),
    [
        ("sft", ("sft.max_steps=1", "sft.warmup_steps=5"), "1 steps have left every weight as it was"),
        ("reward", ("reward.max_steps=1", "reward.warmup_steps=5"), "1 steps have left every weight as it was"),
        ("ppo", ("ppo.total_episodes=16", "ppo.warmup_steps=5"), "1 steps have left every weight as it was"),
        ("ppo", ("ppo.value_warmup_updates=2",), "2 of 2 updates train the value model alone"),
        ("ppo", ("ppo.total_episodes=0",), "ppo.total_episodes = 0 should be 1 or more"),
        ("sft", ("sft.weight_decay=.nan",), "sft.weight_decay = nan should be 0 to 1"),
    ],
)
def test_nothing_untrained_is_published(
    stage: str, overrides: tuple[str, ...], said: str,
    finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    project = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    project.write()
    assert said in line_of(project, stage, *overrides, capsys=capsys)
    assert {len(project.store.versions(name)) for name in project.store.names()} == {1}
