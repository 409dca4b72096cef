"""What of people and of this machine is published: ids, never notes; nothing without consent; no place or name."""

from __future__ import annotations

import getpass
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from peft import LoraConfig
from safetensors.numpy import save

from pipeline.base.errors import DataError, ModelError, StoreError
from pipeline.erasure.case import hub_copies
from pipeline.erasure.erase_version import all_records
from pipeline.modeling.portable import ADAPTER_KEYS
from pipeline.stages.hub import search as search_module
from pipeline.stages.hub.artefacts import Plan
from pipeline.stages.hub.contents import contents
from pipeline.stages.hub.search import search
from pipeline.store.copies import record_copy
from pipeline.store.store import Store, Version
from pipeline.store.version import Version as AnyVersion

VOTES = dict.fromkeys(("id", "annotator", "choice", "note", "consent"), "string")


def preferences(store: Store, consent: str | None = "sha", **config: Any) -> Version:
    """Two rows, and the answers of one person, with a note that names another."""
    rows = [{"id": str(i), "prompt": "p", "chosen": "a", "rejected": "b"} for i in range(2)]
    votes = [
        {"id": str(i), "annotator": "p_0123456789", "choice": "a", "note": "as Jo said", "consent": consent}
        for i in range(2)
    ]
    with store.draft(
        "people", kind="preferences", stage="label", config=config, governance={"consent": "each person's own"}
    ) as draft:
        draft.write_rows("train", rows)
        draft.write_rows("train", votes, config="votes", schema=VOTES)
    return draft.version


def published(store: Store, version: Version, basis: str | None = None) -> dict[str, Any]:
    plan = Plan(store, "org/people", basis=basis)
    return dict(contents(store, plan.add(version), {}))


def test_notes_stay_here_and_the_content_id_stays_the_same(store: Store, tmp_path: Path):
    version = preferences(store)
    files = published(store, version)
    out = tmp_path / "out"
    for path, content in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    copy = AnyVersion.open(out)
    assert copy.damage() == []
    assert copy.id == version.id
    assert copy.rows("train") == version.rows("train")
    votes = copy.rows("train", "votes")
    assert votes == [{**row, "note": None} for row in version.rows("train", "votes")]
    assert {row["annotator"] for row in votes} == {"p_0123456789"}
    raw = pq.read_table(out / "votes" / "train-00000-of-00001.parquet")
    assert raw.schema.names == list(VOTES)
    assert b"Jo" not in b"".join(p.read_bytes() for p in out.rglob("*.parquet"))


def test_answers_without_consent_stay_here(store: Store):
    version = preferences(store, consent=None)
    with pytest.raises(DataError, match="answers of people without their consent: 2"):
        published(store, version)
    assert published(store, version, basis="they were asked by letter")


def test_places_of_this_machine_become_names(store: Store):
    version = preferences(store, data_dir=str(store.root), read=["~/votes.jsonl", "votes/x.jsonl"])
    files = published(store, version)
    config = json.loads(files["manifest.json"])["config"]
    assert config == {"data_dir": store.root.name, "read": ["votes.jsonl", "votes/x.jsonl"]}
    search("org/people", files, store.root)


OLD_TOKENIZER = {
    "tokenizer_class": "TokenizersBackend",
    "is_local": True,
    "extra_special_tokens": ["<|user|>"],
    "eos_token": "<|endoftext|>",
}


def test_what_was_saved_before_it_was_portable_is_published_portable(store: Store):
    """The keys of tests/unit/modeling/test_portable.py, in versions whose files lack them."""
    settings = {**LoraConfig(r=4, target_modules=["c_attn"]).to_dict(), "target_modules": ["c_attn"]}
    files = {
        "mine-base": {
            "config.json": {"model_type": "gpt2", "n_positions": 48},
            "tokenizer_config.json": OLD_TOKENIZER,
        },
        "mine": {"adapter_config.json": settings, "tokenizer_config.json": OLD_TOKENIZER},
    }
    versions: list[Version] = []
    for name, content in files.items():
        kind, stage = ("model", "sft") if name == "mine-base" else ("adapter", "ppo")
        parents = [(version, "base") for version in versions]
        with store.draft(name, kind=kind, stage=stage, parents=parents) as draft:
            for path, value in content.items():
                (draft.path / path).write_text(json.dumps(value, default=str))
            weights = save({"x": np.zeros(1, np.float32)})
            (draft.path / ("model.safetensors" if kind == "model" else "adapter_model.safetensors")).write_bytes(
                weights
            )
        versions.append(draft.version)
    plan = Plan(store, "org/mine")
    plan.add(versions[1])
    sent: list[dict[str, Any]] = [dict(contents(store, artefact, {})) for artefact in plan.artefacts]
    base, adapter = sent
    assert json.loads(base["config.json"])["n_ctx"] == 48
    for sent_files in sent:
        tokenizer = json.loads(sent_files["tokenizer_config.json"])
        assert tokenizer == {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "additional_special_tokens": ["<|user|>"],
            "eos_token": "<|endoftext|>",
        }
    written = json.loads(adapter["adapter_config.json"])
    assert set(written) == ADAPTER_KEYS
    assert (written["r"], written["target_modules"]) == (4, ["c_attn"])


def test_where_a_version_was_published_is_known_to_an_erasure(store: Store):
    version = preferences(store)
    before = (version.path / "manifest.json").read_bytes()
    for _ in range(2):
        record_copy(version, "datasets/org/people", "v000001")
    assert (version.path / "manifest.json").read_bytes() == before  # people sign off its bytes
    records, _ = all_records(store)
    assert hub_copies(records.values()) == [("people@v000001", "datasets/org/people", "v000001")]


def parquet(text: str) -> Callable[[Path], bytes]:
    def write(root: Path) -> bytes:
        store = Store(root / "other")
        with store.draft("x", kind="prompts", stage="collect") as draft:
            # Between a and z: Parquet writes the smallest and the largest beside the compressed values.
            texts = ["a", "z"] * 600 + [text, "z"]
            draft.write_rows("train", [{"id": str(i), "prompt": t} for i, t in enumerate(texts)])
        return draft.version.shards()[0].read_bytes()

    return write


HELD = {
    "a directory": ("config.json", lambda root: f'{{"x": "{root}/data/a"}}'.encode(), "the place"),
    "another's home": ("README.md", lambda root: b"see /home/jo/notes.txt", 'the place "/home/jo/"'),
    "a user": ("manifest.json", lambda root: b'{"by": "josephine"}', 'the name "josephine"'),
    "a machine": ("README.md", lambda root: b"made on workhorse.lab.example", 'the name "workhorse'),
    "a key": ("tokenizer.json", lambda root: b'"hf_' + b"a1" * 17 + b'"', "access token"),
    "a directory in weights": ("model.safetensors", lambda root: save({"a": b(root)}), "the place"),
    "an optimiser's state": ("model.safetensors", lambda root: save({"exp_avg.0": b(root)}), "optimiser's state"),
    "a pickle": ("vocab.json", lambda root: pickle.dumps({}), "pickled code"),
    "a pickle by its name": ("training_args.bin", lambda root: b"x", "of no kind that is published"),
    "a trainer's state": ("trainer_state.json", lambda root: b"{}", "of no kind that is published"),
}


def b(root: Path) -> Any:
    import numpy as np

    return np.frombuffer(f"{root}/data/secret".encode(), dtype=np.uint8)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "josephine")
    monkeypatch.setattr(search_module.socket, "gethostname", lambda: "workhorse.lab.example")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("as_file", [False, True])
def test_what_must_stay_is_found_wherever_it_is(name: str, as_file: bool, tmp_path: Path):
    path, make, said = HELD[name]
    content: bytes | Path = make(tmp_path)
    if as_file:
        (tmp_path / "file").write_bytes(content)
        content = tmp_path / "file"
    with pytest.raises(StoreError, match=rf"org/x: {re.escape(path)}: .*{said}"):
        search("org/x", {"a.md": b"nothing", path: content}, tmp_path / "data")


@pytest.mark.usefixtures("machine")
def test_rows_are_searched_although_parquet_compresses_them(tmp_path: Path):
    held = parquet(f"look into {tmp_path}/data/x")(tmp_path)
    assert str(tmp_path).encode() not in held
    with pytest.raises(StoreError, match=r"x\.parquet, row 1200: holds the place"):
        search("org/x", {"x.parquet": held}, tmp_path / "data")
    # A person's words: neither a name that happens to be the user's, nor another machine's home, stops them.
    search("org/x", {"x.parquet": parquet("ask josephine, or look into /home/jo/")(tmp_path)}, tmp_path / "data")
    search("org/x", {"tokenizer.json": b'{"josephine": 7}'}, tmp_path / "data")


def adapter(store: Store, base: str, revision: str | None) -> Version:
    """A policy over a base that is no version."""
    models = [{"role": "base", "id": base, "revision": revision, "content": "x"}]
    with store.draft("theirs", kind="adapter", stage="ppo") as draft:
        draft.models = models
        settings = {"base_model_name_or_path": base, "revision": revision, "r": 8}
        (draft.path / "adapter_config.json").write_text(json.dumps(settings))
        (draft.path / "adapter_model.safetensors").write_bytes(save({"a": b(Path("x"))}))
    return draft.version


def config_of(store: Store, version: Version, base: str | None = None) -> tuple[str, str]:
    files = dict(contents(store, Plan(store, "org/x", base=base).add(version), {}))
    assert isinstance(files["README.md"], bytes)
    config = json.loads(files["adapter_config.json"])  # type: ignore[arg-type]
    assert f"base_model: {config['base_model_name_or_path']}\n" in files["README.md"].decode()
    return config["base_model_name_or_path"], config["revision"]


def test_a_base_on_the_hub_is_named_by_its_commit(store: Store):
    assert config_of(store, adapter(store, "they/base", "7" * 40)) == ("they/base", "7" * 40)


def test_a_base_that_is_a_directory_has_to_be_named(store: Store, tmp_path: Path):
    version = adapter(store, str(tmp_path), None)
    with pytest.raises(ModelError, match=r"a directory of this machine\. Say where it is on the Hub:  ?--base"):
        config_of(store, version)
    assert config_of(store, version, base=f"they/base@{'7' * 40}") == ("they/base", "7" * 40)


def test_other_versions_are_not_published(store: Store):
    with store.draft("report", kind="report", stage="report") as draft:
        (draft.path / "report.html").write_text("x")
    with pytest.raises(StoreError, match="is a version of report, which is not published"):
        Plan(store, "org/x").add(draft.version)
