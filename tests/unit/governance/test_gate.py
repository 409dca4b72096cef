"""The gate: what lineage records wins over what is given, and refusals and overrides are events."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.required import REQUIRED
from pipeline.governance.audit_log import AuditLog
from pipeline.governance.gate import Missing, Override, admit, asked_of
from pipeline.store.store import Store, Version
from tests.helpers.versions import publish

LACKING = [Missing("x@v000001 is not signed off", "sign it off"), Missing("two e-mails", "scrub them")]


@pytest.fixture
def version(store: Store) -> Version:
    rows = publish(store, name="rows", governance={REQUIRED: {"consent": True}})
    return publish(store, name="policy", kind="adapter", stage="ppo", parents=[(rows, "preferences")])


def events(store: Store) -> list[tuple[str, str, object]]:
    return [(e.event, e.by, e.facts.get("missing")) for e in AuditLog(store.root).events()]


def test_what_is_given_adds_and_never_takes_away(store: Store, version: Version):
    assert asked_of(store, version) == {"consent": True}
    assert asked_of(store, version, {"consent": False, "sign_off": True}) == {"consent": True, "sign_off": True}


def test_what_an_ancestor_asks_for_counts_though_it_was_cut_from_the_version(store: Store, version: Version):
    path = version.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "governance": {}}))
    assert asked_of(store, store.resolve("policy")) == {"consent": True}
    # And the other way round: the version has it when its ancestors are gone.
    path.write_text(version.manifest.to_json())
    shutil.rmtree(store.home("rows"))
    assert asked_of(store, store.resolve("policy")) == {"consent": True}


def test_a_damaged_ancestor_may_have_asked_for_anything(store: Store, version: Version):
    (store.resolve("rows").path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="what it asks for is not known: rows@v000001 is damaged"):
        asked_of(store, version)


def test_a_refusal_names_everything_and_is_an_event(store: Store, version: Version):
    assert admit(store, version, "org/x", [], None) is None
    assert events(store) == []
    with pytest.raises(StoreError) as refused:
        admit(store, version, "org/x", LACKING, None)
    assert str(refused.value) == (
        f"{version.where}: may not leave for org/x: x@v000001 is not signed off (sign it off); two e-mails (scrub "
        'them). Or, noted in the audit log and on the card: --override "why" --by NAME'
    )
    assert events(store) == [("refused", "", "x@v000001 is not signed off; two e-mails")]


def test_an_override_is_an_event_once(store: Store, version: Version):
    override = Override("the board has decided", "Ann")
    event = admit(store, version, "org/x", LACKING, override)
    assert event is not None
    assert (event.by, event.facts["note"]) == ("Ann", "the board has decided")
    assert admit(store, version, "org/x", LACKING, override) == event
    # Mutation caught: an override of one thing that holds for whatever is missing later.
    assert admit(store, version, "org/x", LACKING[:1], override) != event
    assert [event for event, _, _ in events(store)] == ["overridden"] * 2


def test_nothing_passes_a_changed_log(store: Store, version: Version):
    admit(store, version, "org/x", LACKING, Override("why", "Ann"))
    log = AuditLog(store.root)
    log.path.write_text(log.path.read_text().replace("Ann", "Bob"))
    for lacking in ([], LACKING):
        with pytest.raises(StoreError, match="line 1 was changed"):
            admit(store, version, "org/x", lacking, Override("why", "Ann"))


@pytest.mark.parametrize(
    ("reason", "by"), [("why", None), (None, "Ann"), ("", "Ann"), ("why", " "), ("a\x1b[", "A")]
)
def test_an_override_has_a_reason_and_a_name(reason: str | None, by: str | None):
    with pytest.raises(ConfigError):
        Override.given(reason, by)
