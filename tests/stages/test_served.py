"""``collect`` with completions from a server: the same versions after a failure as without, and no key in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, ModelError
from pipeline.store.store import Version
from pipeline.workflow.config import load_config
from pipeline.workflow.stage import Planner
from tests.conftest import tiny_gpt2, tiny_tokenizer
from tests.helpers import completion_server
from tests.helpers.completion_server import CompletionServer, serving
from tests.stages.conftest import Project

KEY = "sk-very-secret"


@pytest.fixture
def served(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SAMPLER_KEY", KEY)
    words = ("good", "bad", "great", "terrible", "fine")
    monkeypatch.setattr(
        completion_server, "text_for", lambda prompt, seed: f" {words[seed % 5]}. It is {words[seed // 5 % 5]}."
    )
    tiny_gpt2().save_pretrained(project.root / "base")
    tiny_tokenizer().save_pretrained(project.root / "base")
    return project


def write(project: Project, server: CompletionServer, **more: Any) -> None:
    sampler = {"url": server.url, "model": "m", "key_env": "SAMPLER_KEY", "concurrency": 3, "attempts": 2, **more}
    project.write(
        base_model=str(project.root / "base"),
        sft=None,
        collect={"comparisons": 30, "completions": 3, "sampler": sampler},
    )


def content(version: Version) -> list[Any]:
    return [version.id, [(key, split.rows) for key, split in version.manifest.splits.items()]]


# Catches: completions thrown away with the run; rows in the order of arrival; a key in a version or a log.
@pytest.mark.thorough
def test_a_failed_run_goes_on_and_ends_as_if_nothing_had_happened(
    served: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    server = CompletionServer(lambda _, n: "401" if n >= 40 else None)
    with serving(server):
        write(served, server)
        with pytest.raises(ModelError, match="HTTP 401"):
            served.run("collect")
        asked = len(server.answered)
        assert 30 < asked < 90
        server.faults = lambda *_: None
        # How the server is talked to, and who annotates, are no reasons to ask again.
        write(served, server, concurrency=5, timeout=60)
        assert served.run("collect", "collect.annotator_args.temperature=0.1") == 0
        assert len(server.answered) == len(set(server.answered)) == 90
        first = [content(served.latest(role)) for role in ("comparisons", "preferences")]
        calm = Project(served.root / "calm")
        calm.root.mkdir()
        (calm.root / "base").symlink_to(served.root / "base")
        write(calm, server)
        assert calm.run("collect", "collect.annotator_args.temperature=0.1") == 0
        assert [content(calm.latest(role)) for role in ("comparisons", "preferences")] == first
    comparisons = served.latest("comparisons")
    rows = [row for split in ("train", "test") for row in comparisons.rows(split, "completions")]
    assert len(rows) == 90
    texts = {(r["prompt"], r["completion"]) for r in rows}
    for pair in comparisons.rows("train"):
        assert {(pair["prompt"], pair["completion_a"]), (pair["prompt"], pair["completion_b"])} <= texts
    said = comparisons.manifest.stats["sampler"]
    assert (said["server"], said["completions"], said["model"]["root"]) == ("vllm", 90, "/models/m")
    assert not list((served.root / "data" / ".runs").iterdir())
    out = "".join(capfd.readouterr())
    assert KEY not in out + "".join(p.read_text(errors="replace") for p in served.root.rglob("*") if p.is_file())


# Catches: settings of the transport in the key of the work; a server's in none.
def test_what_is_new_work(served: Project) -> None:
    def key(**more: Any) -> str:
        write(served, CompletionServer(url="http://h/v1"), **more)
        config = load_config(served.config)
        return Planner(config, served.store).run_of("collect").key

    assert key() == key(concurrency=9, rate=5, timeout=9, attempts=3, key_env="OTHER_KEY")
    assert len({key(), key(model="n"), key(api="chat"), key(request={"top_p": 0.9}), key(url="http://i/v1")}) == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("collect.batch_size=8", "collect.batch_size = 8 has no effect beside collect.sampler"),
        ("collect.inputs={policy: x@v1}", r"collect.inputs.policy has no effect beside collect.sampler\. Serve"),
        ("collect.sampler.url=http://h/v1?key=1", "url holds a user, a password or a query"),
        ("collect.sampler.request={api_key: abc}", "collect.sampler.request.api_key holds a secret"),
        ("collect.sampler=http://h/v1", "collect.sampler = 'http://h/v1' is no|should be a mapping"),
        ("collect.sampler.concurrency=0", "collect.sampler.concurrency = 0 should be a number of 1|1 or more"),
    ],
)
def test_what_cannot_be_is_refused(served: Project, override: str, said: str) -> None:
    write(served, CompletionServer(url="http://h/v1"))
    with pytest.raises(ConfigError, match=said):
        load_config(served.config, [override])


def test_the_secret_of_another_section_names_the_other_variable(served: Project) -> None:
    write(served, CompletionServer(url="http://h/v1"))
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        load_config(served.config, ["collect.sampler.request={api_key: abc}"])


def test_the_journal_is_named_where_it_is(served: Project) -> None:
    server = CompletionServer(lambda _, n: "401" if n > 5 else None)
    with serving(server):
        write(served, server)
        with pytest.raises(ModelError):
            served.run("collect")
    left: list[Path] = [
        p for p in (served.root / "data" / ".runs").iterdir() if p.name.startswith("mini-completions-")
    ]
    assert [p.name for p in left[0].iterdir()] == ["completions.jsonl"]


# Where people choose, a changed rule of when it is enough asks the server for nothing.
@pytest.mark.thorough
def test_people_choose_between_a_servers_completions(served: Project) -> None:
    server = CompletionServer()
    with serving(server):
        write(served, server)
        for enough in (50, 60):
            rules = ("collect.annotator_args={}", "collect.serve=false", f"label.enough={enough}")
            assert served.run("collect", "collect.annotator=human", *rules) == 0
    assert len(server.answered) == 90
    versions = served.store.versions("mini-comparisons")
    assert [v.manifest.splits["completions/train"].rows for v in versions] == [81, 81]
    assert not [p for p in (served.root / "data" / ".runs").iterdir() if "completions" in p.name]
