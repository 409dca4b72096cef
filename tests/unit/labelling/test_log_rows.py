"""What people wrote, on its way from the log into rows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.settings import LabelSection
from tests.unit.labelling.helpers import ITEMS, agree, new_event, open_log, vote


# Mutation caught: the pair of an edit made of the text as it was written.
def test_notes_and_edits_are_scrubbed_and_the_log_is_not(tmp_path: Path) -> None:
    with closing(open_log(tmp_path, ITEMS, whole=True)) as log:
        who = log.people.add("first").id
        agree(log, who)
        log.events.append(vote(who, ITEMS[0], "a", note="ask jo"))
        log.events.append(new_event("edit", who, ITEMS[0], completion=1, text="jo knows"))
        log.events.append(new_event("skip", who, ITEMS[1], note="jo again"))
        settings = LabelSection(ask=["note", "edit"])
        rows = publishable_rows(log, settings, lambda text: text.replace("jo", "<X_1>"))
        assert {v["note"] for v in rows.votes["train"]} == {"ask <X_1>", "<X_1> again"}
        assert [e["completion"] for e in rows.edits["train"]] == ["<X_1> knows"]
        assert "jo" not in str([rows.preferences, rows.unpaired, rows.edits, rows.votes])
        assert [v.note for v in log.answers.votes()] == ["ask jo"]
        plain = publishable_rows(log, settings)
        assert [e["completion"] for e in plain.edits["train"]] == ["jo knows"]
