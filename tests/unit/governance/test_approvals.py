"""A sign-off holds for the bytes it was given to, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.base.errors import ConfigError, StoreError
from pipeline.governance.approvals import approval_of, approve, changed_since, decision_of, withdraw
from pipeline.governance.audit_log import AuditLog
from pipeline.store.store import Store, Version
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.versions import numbered, publish


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture
def version(store: Store) -> Version:
    return publish(store, numbered(3))


def test_an_approval_is_of_one_version(store: Store, version: Version):
    other = publish(store, numbered(4))
    assert approval_of(store, version) is None
    approval, new = approve(store, version, "  Ann  Lee ", "read twenty\nrows")
    assert new
    assert (approval.by, approval.note) == ("Ann Lee", "read twenty rows")
    assert approval_of(store, version) == approval
    assert approval_of(store, other) is None
    assert changed_since(store) == []


def test_the_same_approval_again_is_no_event(store: Store, version: Version):
    first, _ = approve(store, version, "Ann", "good")
    assert approve(store, version, "Ann", "good") == (first, False)
    assert approve(store, version, "Bo", "good")[1]
    assert [e.by for e in AuditLog(store.root).events()] == ["Ann", "Bo"]


def test_a_withdrawn_approval_is_none(store: Store, version: Version):
    assert withdraw(store, version, "Ann", "") is None
    approve(store, version, "Ann", "good")
    assert withdraw(store, version, "Bo", "it was not") is not None
    assert approval_of(store, version) is None
    assert changed_since(store) == []
    approve(store, version, "Ann", "good")
    assert approval_of(store, version) is not None


# Mutations caught: a no that counts as an approval; one that holds for other bytes; a yes that a later no leaves.
def test_a_no_is_no_approval_and_holds_for_its_bytes(store: Store, version: Version):
    approve(store, version, "Ann", "good")
    no, new = approve(store, version, "Bo", "rude", yes=False)
    assert (new, no.is_yes, no.by) == (True, False, "Bo")
    assert approve(store, version, "Bo", "rude", yes=False) == (no, False)
    assert approval_of(store, version) is None
    assert decision_of(store, version) == no
    assert changed_since(store) == []
    edit_the_card(version)
    assert decision_of(store, version) is None
    assert approve(store, version, "Bo", "better", yes=True)[0] == decision_of(store, version)


def test_a_no_on_the_command_line(store: Store, version: Version, capsys: pytest.CaptureFixture[str]):
    argv = ["approve", version.ref, "--by", "Ann", "--note", "rude", "--root", str(store.root), "--reject"]
    assert main(argv) == 0
    assert "rejected by Ann" in capsys.readouterr().out
    assert main(argv) == 0
    assert f"up to date: Ann rejected {version.ref}" in capsys.readouterr().out
    assert main(["audit", "show", "--root", str(store.root)]) == 0
    assert f"rejected {version.ref} by Ann: rude" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*argv, "--withdraw"])


def flip_a_row(version: Version) -> None:
    shard = version.shards()[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def edit_the_manifest(version: Version) -> None:
    path = version.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "seed": 7}))


def edit_the_card(version: Version) -> None:
    with (version.path / "README.md").open("a") as card:
        card.write("Safe for everybody.")


def add_a_file(version: Version) -> None:
    (version.path / "more.bin").write_bytes(b"x")


@pytest.mark.parametrize("damage", [flip_a_row, add_a_file])
def test_damaged_files_are_not_approved(damage, store: Store, version: Version):
    approve(store, version, "Ann", "good")
    damage(version)
    with pytest.raises(StoreError, match="is not as it was made"):
        approval_of(store, version)
    with pytest.raises(StoreError, match="is not as it was made"):
        approve(store, version, "Ann", "still good")
    assert ["is not as it was made" in problem for problem in changed_since(store)] == [True]


@pytest.mark.parametrize("change", [edit_the_manifest, edit_the_card])
def test_a_changed_manifest_or_card_is_another_version(change, store: Store, version: Version):
    # Mutation caught: only the content id compared, which covers neither.
    approve(store, version, "Ann", "good")
    change(version)
    again = store.resolve(version.ref)
    assert approval_of(store, again) is None
    assert changed_since(store) == [f"{version.ref} is not what Ann approved: its manifest or card was changed"]


def test_a_changed_log_approves_nothing(store: Store, version: Version):
    approve(store, version, "Ann", "good")
    log = AuditLog(store.root)
    log.path.write_text(log.path.read_text().replace("Ann", "Bob"))
    with pytest.raises(StoreError, match="line 1 was changed"):
        approval_of(store, version)


@pytest.mark.parametrize(
    ("by", "note"), [("", "x"), (" \n", "x"), ("A" * 101, "x"), ("A\x1b[2J", "x"), ("A", "x" * 2001)]
)
def test_names_and_notes_fit_in_a_line(by: str, note: str, store: Store, version: Version):
    with pytest.raises(ConfigError):
        approve(store, version, by, note)
    assert AuditLog(store.root).events() == []


def test_the_commands(store: Store, version: Version, capsys: pytest.CaptureFixture[str]):
    root = ["--root", str(store.root)]
    by = ["--by", "Ann", "--note", "read twenty rows"]
    assert main(["approve", version.ref, *by, *root]) == 0
    out = capsys.readouterr().out
    assert "prefs@v000001, preferences by collect, id " in out
    noted = out.split()[-1]
    assert main(["approve", "prefs", *by, *root]) == 0
    assert "up to date: Ann approved prefs@v000001 at 20" in capsys.readouterr().out
    assert main(["audit", "verify", "--hash", noted, *root]) == 0
    assert (
        f"1 events, none changed; what was approved is as it was; the last hash is {noted}"
        in capsys.readouterr().out
    )
    assert main(["approve", "prefs", "--by", "Bo", "--withdraw", *root]) == 0
    assert main(["audit", "show", *root]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[2:6] for line in shown[-2:]] == [
        ["approved", "prefs@v000001", "by", "Ann:"],
        ["withdrawn", "prefs@v000001", "by", "Bo"],
    ]
    assert main(["audit", "verify", "--hash", "f" * 64, *root]) == 1
    assert "no event has the hash" in capsys.readouterr().err
    edit_the_card(version)
    approve(store, store.resolve("prefs"), "Cy", "the card as well")
    flip_a_row(version)
    assert main(["audit", "verify", *root]) == 1
    assert "prefs@v000001, approved by Cy" in capsys.readouterr().err


def test_a_kill_among_several_is_mended_by_the_same_command(store: Store, version: Version):
    publish(store, numbered(4), name="other")
    command = ["approve", "prefs", "other", "--by", "Ann", "--root", str(store.root)]
    for step in range(3):
        with pytest.MonkeyPatch.context() as patch:
            die_after_calls(patch, [(AuditLog, "append")], step)
            if step < 2:
                with pytest.raises(Died):
                    main(command)
            else:
                assert main(command) == 0
    assert [e.facts["ref"] for e in AuditLog(store.root).events()] == ["prefs@v000001", "other@v000001"]
