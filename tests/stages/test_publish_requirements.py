"""Publishing under requirements, to a double of the Hub: what is missing, overrides, and what the log says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import close_session

from pipeline.__main__ import main
from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.required import REQUIRED
from pipeline.governance.approvals import approve, withdraw
from pipeline.governance.audit_log import AuditLog
from pipeline.stages.hub import gate
from pipeline.stages.hub.artefacts import Plan
from pipeline.stages.hub.permit import needs_sign_off
from pipeline.store.store import Store, Version
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.hub_double import Hub, ask_the_double, hub
from tests.helpers.hub_repository import Repository
from tests.helpers.read_merged_here import read_merged_here
from tests.stages.conftest import Project

VOTES = dict.fromkeys(("id", "annotator", "choice", "consent"), "string")
REPO = "datasets/org/people"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(gate, "pass_gate", lambda artefacts, commits: gate.Compared())
    monkeypatch.setenv("HF_TOKEN", "right")
    with hub() as running:
        ask_the_double(monkeypatch, running, tmp_path)
        yield running
    close_session()


def people(store: Store, consent: str | None = "sha", **required: Any) -> Version:
    """Preferences of one person."""
    vote = {"id": "1", "annotator": "p_0123456789", "choice": "a", "consent": consent}
    governance = {"consent": "each person's own", REQUIRED: required}
    with store.draft("people", kind="preferences", stage="label", governance=governance) as draft:
        draft.write_rows("train", [{"id": "1", "prompt": "p", "chosen": "a", "rejected": "b"}])
        draft.write_rows("train", [vote], config="votes", schema=VOTES)
    return draft.version


def telling(store: Store, **required: Any) -> Version:
    """Preferences whose texts, and a note that stays here, hold two addresses and a number."""
    with store.draft("people", kind="preferences", stage="collect", governance={REQUIRED: required}) as draft:
        texts: dict[str, Any] = {
            "prompt": "p",
            "chosen": "ask jo@example.com",
            "rejected": "or +1 202-555-0147, a@example.com",
        }
        texts |= {"annotator": "oracle", "comparison_id": "c", "margin": 1.0}
        draft.write_rows("train", [{"id": "1", **texts, "note": "my SSN is 078-05-1120"}])
    return draft.version


def publish(store: Store, *arguments: str) -> int:
    return main(["publish", "people", "--repo", "org/people", "--root", str(store.root), *arguments])


def events(store: Store) -> list[str]:
    return [event.event for event in AuditLog(store.root).events()]


def card(server: Hub, repo: str = REPO) -> str:
    at = server.at(repo, "v000001")
    assert at is not None
    return at[1]["README.md"].decode()


def test_a_sign_off_of_these_bytes_is_needed(server: Hub, store: Store):
    version = people(store, sign_off=True)
    with pytest.raises(
        StoreError, match=r"people@v000001 is not signed off \(.*pipeline approve people@v000001 --by"
    ):
        publish(store)
    approve(store, version, "Ann", "read | all")
    withdraw(store, version, "Bo", "")
    with pytest.raises(StoreError, match="not signed off: Bo withdrew that at 20"):
        publish(store)
    approve(store, version, "Ann", "read | all")
    with (version.path / "README.md").open("a") as file:
        file.write("more")
    with pytest.raises(StoreError, match="is not what Ann signed off: its manifest or card was changed"):
        publish(store)
    assert server.repos == {}
    approve(store, version, "Cy", "the new card too")
    assert publish(store) == 0
    assert "## Who answers for it\n\n- people@v000001 was signed off by Cy at 20" in card(server)
    assert card(server).endswith(": the new card too\n")
    assert events(store) == [
        *("refused", "approved", "withdrawn", "refused", "approved", "refused", "approved", "published")
    ]


# Mutation caught: what is given taking the place of what the version records.
@pytest.mark.parametrize("weaker", [["governance.sign_off=false"], ["--config", "lax"], ["governance={}"]])
def test_no_config_passes_the_gate(weaker: list[str], server: Hub, store: Store, tmp_path: Path):
    people(store, sign_off=True)
    (tmp_path / "lax.yaml").write_text("name: x\ntask: reviews\ngovernance: {sign_off: false}\n")
    with pytest.raises(StoreError, match="is not signed off"):
        publish(store, *(str(tmp_path / "lax.yaml") if word == "lax" else word for word in weaker))


def test_a_config_or_the_command_line_asks_for_more(server: Hub, store: Store, tmp_path: Path):
    people(store, consent=None)
    (tmp_path / "strict.yaml").write_text("name: x\ntask: reviews\ngovernance: {consent: true}\n")
    for more in (["--config", str(tmp_path / "strict.yaml")], ["governance.consent=true"]):
        with pytest.raises(StoreError, match="people@v000001, train: answers of people without their consent: 1"):
            publish(store, "--without-consent", "they said so", *more)
    for _ in range(2):
        assert publish(store, "--without-consent", "they said so") == 0
    assert "- Holds answers of people who agreed to nothing, because: they said so (20" in card(server)
    overridden = [e for e in AuditLog(store.root).events() if e.event == "overridden"]
    assert [(e.by, e.facts["missing"], e.facts["note"]) for e in overridden] == [("", "consent", "they said so")]


def test_a_dry_run_lists_what_is_missing(server: Hub, store: Store, capsys: pytest.CaptureFixture[str]):
    people(store, consent=None, sign_off=True, consent_of_the_moon=True)
    assert publish(store, "--dry-run", "governance.consent=true") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing: ")]
    assert [line.split(" (")[0] for line in lines] == [
        "missing: people@v000001, train: answers of people without their consent: 1",
        "missing: consent_of_the_moon is required, which this program does not know",
        "missing: people@v000001 is not signed off",
    ]
    assert events(store) == []


def test_an_override_is_on_the_card_and_in_the_log(server: Hub, store: Store):
    version = people(store, sign_off=True)
    assert publish(store, "--override", "the board | decided", "--by", "Ann") == 0
    log = AuditLog(store.root).events()
    assert [event.event for event in log] == ["overridden", "published"]
    assert "**Published against what was required**: people@v000001 is not signed off." in card(server)
    assert f"Because: the board \\| decided (Ann, {log[0].time})" in card(server)
    kept = server.repos[REPO]
    assert isinstance(kept, Repository)
    facts = dict(log[1].facts)
    assert facts.pop("manifest")
    where = {"repo": REPO, "tag": "v000001", "commit": kept.head}
    assert facts == {"ref": version.ref, "id": version.id, **where}
    # The same command again is no event.
    assert publish(store, "--override", "the board | decided", "--by", "Ann") == 0
    assert AuditLog(store.root).events() == log


def test_a_kill_between_any_two_steps(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the Hub's client and of the log: the override, the repository, its commit, the event and the tag."""
    for step in range(5):
        there, repo = Store(tmp_path / str(step) / "data"), f"org/people{step}"
        people(there, sign_off=True)
        command = [
            "publish",
            "people",
            "--repo",
            repo,
            "--root",
            str(there.root),
            "--override",
            "why",
            "--by",
            "Ann",
        ]
        with monkeypatch.context() as killing:
            points = [(HfApi, name) for name in ("create_repo", "create_commit", "create_tag")]
            die_after_calls(killing, [(AuditLog, "append"), *points], step)
            with pytest.raises(Died):
                main(command)
        kept = server.repos.get(f"datasets/{repo}")
        # Nothing has a tag that the log does not know of.
        assert "published" in events(there) or not (isinstance(kept, Repository) and kept.tags)
        assert main(command) == 0
        assert server.at(f"datasets/{repo}", "v000001") is not None
        assert events(there) == ["overridden", "published"]


def test_what_was_published_before_there_was_a_log_is_noted_by_the_same_command(server: Hub, store: Store):
    people(store)
    assert publish(store) == 0
    noted = AuditLog(store.root).events()
    for file in AuditLog(store.root).directory.iterdir():
        file.unlink()
    assert publish(store) == 0
    assert [event.facts for event in AuditLog(store.root).events()] == [event.facts for event in noted]


def test_what_needs_a_sign_off_of_its_own(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(finished.root / "data", tmp_path / "data", ignore=shutil.ignore_patterns("mini-report"))
    main(["data", "relocate", "--root", str(tmp_path / "data")])
    read_merged_here(monkeypatch)
    store = Store(tmp_path / "data")
    plan = Plan(store, "org/mini", check_consent=False)
    named = plan.add(store.resolve("mini-policy"))
    needed = {a.version.name for a in plan.artefacts if needs_sign_off(a, named)}
    assert needed == {"mini-policy", "mini-reward", "mini-preferences"}
    base = plan.artefacts[0]
    assert (base.version.name, needs_sign_off(base, base)) == ("mini-base", True)
    # What the config asks for is in every version of the run.
    for version in (*store.versions("mini-policy"), *store.versions("mini-prompts")):
        assert version.manifest.governance[REQUIRED] == {"consent": True}, version.ref
    assert json.loads((named.version.path / "manifest.json").read_text())["governance"][REQUIRED]


def test_personal_data_is_counted_and_refused_above_its_limits(
    server: Hub, store: Store, capsys: pytest.CaptureFixture[str]
):
    telling(store, personal_data={"email": 2})
    with pytest.raises(
        StoreError, match=r"personal data in people@v000001: 2 email \(at most 1\), 3 all \(at most 2\) "
    ):
        publish(store, "governance.personal_data={email: 1, all: 2}")
    assert "\npublish: " not in capsys.readouterr().err
    # Mutation caught: a limit of the command line in the place of a recorded one; the note counted too.
    assert publish(store, "governance.personal_data={email: 5, all: 3}") == 0
    out = capsys.readouterr().out
    assert "personal data in people@v000001: 2 email, 1 phone" in out
    assert "warning" not in out


def test_without_a_limit_personal_data_is_a_warning(server: Hub, store: Store, capsys: pytest.CaptureFixture[str]):
    telling(store)
    assert publish(store) == 0
    assert "warning: personal data in people@v000001: 2 email, 1 phone" in capsys.readouterr().out


def test_an_export_is_held_to_the_same_limits(store: Store, tmp_path: Path):
    telling(store, personal_data={"all": 2})
    command = ["data", "export", "people", str(tmp_path / "a.jsonl"), "--format", "trl", "--root", str(store.root)]
    with pytest.raises(StoreError, match=r"personal data in people@v000001, train: 3 all \(at most 2\)"):
        main(command)
    assert main(["data", "scrub", "people", "--root", str(store.root)]) == 0
    assert main(command) == 0
    assert "jo@example.com" not in (tmp_path / "a.jsonl").read_text()


@pytest.mark.parametrize(
    ("limits", "said"),
    [("{emial: 0}", 'has "emial", which is none of api_key'), ("{email: -1}", "should be 0 or more")],
)
def test_limits_are_of_types_that_are_found(limits: str, said: str, store: Store):
    people(store)
    with pytest.raises(ConfigError, match=said):
        publish(store, f"governance.personal_data={limits}")
