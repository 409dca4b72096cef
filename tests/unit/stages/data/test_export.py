"""Export: what comes back when it is read again, what is said of what does not, and whose rows stay here."""

from __future__ import annotations

import csv
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipeline.annotators import Context, Source, load_annotator
from pipeline.base.errors import DataError, StoreError
from pipeline.base.records import COMPARISONS, PREFERENCES, Comparison, row_id
from pipeline.base.required import REQUIRED
from pipeline.formats.families.label_config import Control, read_label_config
from pipeline.formats.writing import ALL_OR_NO_MARGINS, EXPORT_FORMATS, ExportFormat
from pipeline.governance.audit_log import AuditLog
from pipeline.stages.data import data
from pipeline.stages.data.export import Exported, about_path, export
from pipeline.store.store import Store, Version

ANN, BEN = "p_00000000aa", "p_00000000bb"
VOTES = dict.fromkeys(("id", "comparison_id", "annotator", "choice", "consent"), "string")
UNPAIRED = {"id": "string", "prompt": "string", "completion": "string", "label": "bool", "annotator": "string"}

CHAT = "User: Größe?\n\nAssistant: 1\n\nUser: \n=2+2\n\nAssistant:"
HH = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant:"
PROMPTS = {"plain": 'The film\nwas, "so"', "chat": CHAT, "hh": HH}
PAIRS = [(" good 1", " bad \u2028 1", 2.0), (" gut\r\n2", "\tschlecht", None), ("\n\n*", "  [1]", 1.0)]

KEEPS_MARGIN = {"argilla", "label_studio", "csv", "jsonl"}
KEEPS_TIES = {"ultrafeedback", "helpsteer", "arena", "argilla", "csv", "jsonl"}
KEEPS_BOTH_BAD = {"arena", "argilla", "csv", "jsonl"}
KEEPS_PEOPLE = {"arena", "argilla", "label_studio", "csv", "jsonl"}
CONVERSATIONS = {"conversational", "ultrafeedback", "shp", "helpsteer", "arena"}


def preference(prompt: str, chosen: str, rejected: str, margin: float | None = None, by: str = "oracle") -> Any:
    texts = {"id": row_id(prompt, chosen, rejected), "prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {**texts, "margin": margin, "annotator": by, "comparison_id": Comparison(prompt, chosen, rejected).id}


def vote(comparison_id: str, annotator: str, choice: str | None, consent: str | None = None) -> dict[str, Any]:
    row = {"id": comparison_id + annotator, "comparison_id": comparison_id, "annotator": annotator}
    return {**row, "choice": choice, "consent": consent}


def comparisons(store: Store, rows: list[Comparison]) -> Version:
    with store.draft("x-comparisons", kind="comparisons", stage="collect") as draft:
        found = [
            {name: getattr(c, name) for name in ("id", "prompt", "completion_a", "completion_b")} for c in rows
        ]
        draft.write_rows("train", found, schema=COMPARISONS)
    return draft.version


def preferences(
    store: Store,
    rows: list[dict[str, Any]],
    votes: list[dict[str, Any]] | None = None,
    parents: Any = (),
    consent: str | None = "not needed: no person annotated here",
    configs: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] | None = None,
    kind: str = "preferences",
) -> Version:
    governance = {} if consent is None else {"consent": consent}
    with store.draft("x-preferences", kind=kind, stage="collect", parents=parents, governance=governance) as draft:
        draft.write_rows("train", rows, schema=PREFERENCES)
        if votes is not None:
            schema = {k: v for k, v in VOTES.items() if k != "consent" or any("consent" in v for v in votes)}
            draft.write_rows("train", votes, config="votes", schema=schema)
        for config, (found, schema) in (configs or {}).items():
            draft.write_rows("train", found, config=config, schema=schema)
    return draft.version


def machine(*args: Any) -> dict[str, Any]:
    return {k: v for k, v in vote(*args).items() if k != "consent"}


def kind_of(format: str) -> str:
    return "csv" if format == "csv" else "json" if format in ("argilla", "label_studio") else "jsonl"


def exported(store: Store, version: Version, format: ExportFormat, **options: Any) -> tuple[Path, Exported]:
    out = store.root.parent / f"{format}.{kind_of(format)}"
    return out, export(store, version, out, format, **options)


def read(out: Path, format: str) -> tuple[set[Any], set[str]]:
    """(prompt, the two completions, the chosen one, margin) of every row, and the annotators."""
    told = {"format": format} if format == "trl_implicit" else {}
    source = load_annotator("replay", {"dataset": str(out), **told}, Context(lambda p, c: None, 0, "x.yaml"))
    assert isinstance(source, Source)
    found, people = set[Any](), set[str]()
    for comparison, a in source.judged():
        pair = (comparison.completion_a, comparison.completion_b)
        verdict = {"a": pair[0], "b": pair[1]}.get(a.choice, f"<{a.choice}>")
        found.add((comparison.prompt, frozenset(pair), verdict, a.margin))
        people.add(a.annotator)
    return found, people - {f"replay:{out.name}"}


def tied(store: Store, prompt: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Votes of one tie and one pair with both bad; and the parent that has their texts."""
    tie, bad = Comparison(prompt, " t1", " t2"), Comparison(prompt, " b1", " b2")
    return [machine(tie.id, "oracle", "tie"), machine(bad.id, "oracle", "both_bad")], [
        (comparisons(store, [tie, bad]), "comparisons")
    ]


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_round_trip(store: Store, format: ExportFormat) -> None:
    # hh reads back only its own prompts, the sets of conversations only conversations, as they stand; the pairs of
    # one prompt would be mixed by unpaired.
    prompt = PROMPTS["hh" if format == "hh" else "chat" if format in CONVERSATIONS else "plain"]
    pairs = [(f"{prompt}{i}" if format == "unpaired" else prompt, *pair) for i, pair in enumerate(PAIRS)]
    votes, parents = tied(store, prompt)
    version = preferences(store, [preference(*p) for p in pairs], votes, parents)
    out, done = exported(store, version, format)
    expected = set[Any]()
    for text, chosen, rejected, margin in pairs:
        kept = margin if format in KEEPS_MARGIN else (margin or 1.0) if format == "helpsteer" else None
        expected.add((text, frozenset((chosen, rejected)), chosen, kept))
    bad = "<both_bad>" if format in KEEPS_BOTH_BAD else "<tie>"
    ties = {
        (prompt, frozenset((" t1", " t2")), "<tie>", None),
        (prompt, frozenset((" b1", " b2")), bad, None),
    }
    assert read(out, format)[0] == expected | (ties if format in KEEPS_TIES else set())
    # What is lost is said, and nothing else.
    none = {f"ties: {format} has none": 1, f"pairs with both bad: {format} has none": 1}
    assert done.left_out == ({} if format in KEEPS_TIES else none)
    assert {k: n for k, n in done.lost.items() if k != "ids of rows"} == {
        **({} if format in KEEPS_MARGIN | ALL_OR_NO_MARGINS | {"helpsteer"} else {"margins": 2}),
        **({"margins, as some rows have none": 2} if format in ALL_OR_NO_MARGINS else {}),
        **({"absent margins": 1} if format == "helpsteer" else {}),
        **({"which two were compared": 3} if format == "unpaired" else {}),
        **({"both bad apart from ties": 1} if format in KEEPS_TIES - KEEPS_BOTH_BAD else {}),
    }


@pytest.mark.parametrize("format", sorted(ALL_OR_NO_MARGINS))
def test_margins_are_in_every_row_or_in_none(store: Store, format: ExportFormat) -> None:
    # A file of which only later rows have the key is refused by load_dataset; TRL stops at an absent margin.
    margins = [2.0, 0.0, 0.5]
    rows = [preference(CHAT, f" g{i}", f" b{i}", margin) for i, margin in enumerate(margins)]
    out, done = exported(store, preferences(store, rows), format)
    assert [json.loads(line)["margin"] for line in out.open()] == margins
    assert "margins, as some rows have none" not in done.lost
    # Mutation caught: the key in the rows that have one.
    version = preferences(store, [*rows, preference(CHAT, " g", " b")])
    out, done = exported(store, version, format, force=True)
    assert not any("margin" in json.loads(line) for line in out.open())
    assert done.lost["margins, as some rows have none"] == 3


def test_who_chose_comes_back_where_there_is_a_place_for_it(store: Store) -> None:
    rows = [preference(CHAT, " a", " b", by=ANN), preference(CHAT, " c", " d", by="replay:Ann Example")]
    rows.append(preference(CHAT, " e", " f", by="majority:3"))
    version = preferences(store, rows, [vote("x", ANN, "a", "sha")])
    for format in EXPORT_FORMATS:
        out, done = exported(store, version, format)
        # Mutation caught: the annotator of a row is taken whatever it is called.
        assert "Ann" not in out.read_text()
        assert "Ann" not in about_path(out).read_text()
        if format == "csv" or format == "jsonl":
            rows = list(csv.DictReader(out.open())) if format == "csv" else list(map(json.loads, out.open()))
            assert {r["annotator"] or None for r in rows} == {ANN, None}
        assert read(out, format)[1] == ({ANN} if format in KEEPS_PEOPLE else set()), format
        assert done.lost["annotators' ids"] == (0 if format in KEEPS_PEOPLE else 1)
        out.unlink(), about_path(out).unlink()


# People's consent


def test_people_without_consent_stay_here(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    votes = [vote("x", ANN, "a", "sha"), vote("y", BEN, "b"), vote("z", BEN, None), vote("z", "operator", "a")]
    version = preferences(store, [preference("p", "a", "b", by="majority:2")], votes, consent="by people")
    with pytest.raises(DataError, match=r"people without their consent: 2 \(people: 1\)\. Nothing was wri"):
        exported(store, version, "trl")
    assert sorted(p.name for p in store.root.parent.iterdir()) == ["data"]
    with pytest.raises(DataError, match="is empty"):
        exported(store, version, "trl", without_consent=" ")
    args = ["export", "x-preferences", str(store.root.parent / "a.jsonl"), "--format", "trl"]
    assert data.main([*args, "--root", str(store.root), "--without-consent", "Signed on paper."]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("Signed on paper.")
    assert "x-preferences@v000001 (train) -> " in second
    about = json.loads(about_path(store.root.parent / "a.jsonl").read_text())
    assert (about["version"], about["rows"], about["without_consent"]) == (version.ref, 1, "Signed on paper.")


def test_all_have_agreed(store: Store) -> None:
    version = preferences(store, [preference("p", "a", "b")], [vote("x", ANN, "a", "sha")], consent="by people")
    _, done = exported(store, version, "trl", without_consent="In case.")
    assert done.without_consent is None


def test_what_people_wrote_needs_consent_too(store: Store) -> None:
    edits = (
        [{"id": "1", "annotator": ANN, "consent": None}],
        dict.fromkeys(("id", "annotator", "consent"), "string"),
    )
    version = preferences(
        store,
        [preference("p", "a", "b")],
        [vote("x", BEN, "a", "sha")],
        configs={"edits": edits},
        consent="by people",
    )
    with pytest.raises(DataError, match=r"without their consent: 1 \(people: 1\)"):
        exported(store, version, "trl")


@pytest.mark.parametrize(
    ("said", "votes", "refused"),
    [
        (None, [machine("x", ANN, "a")], False),
        ("not needed: public data", [machine("x", ANN, "a")], False),
        ("not needed: no person annotated here", None, False),
        ("ask the crowd first", [machine("x", ANN, "a")], True),
        ("ask the crowd first", None, True),
    ],
)
def test_versions_without_a_column_of_consent(
    store: Store, said: str | None, votes: list[dict[str, Any]] | None, refused: bool
) -> None:
    version = preferences(store, [preference("p", "a", "b")], votes, consent=said)
    if refused:
        with pytest.raises(DataError, match='the manifest says "ask the crowd first"'):
            exported(store, version, "trl")
    else:
        assert exported(store, version, "trl")[1].rows == 1


def test_rows_carried_from_an_earlier_version_need_consent(store: Store) -> None:
    before = preferences(store, [preference("p", "a", "b", by=ANN)], [vote("x", ANN, "a")], consent="by people")
    version = preferences(store, [preference("p", "a", "b", by=ANN)], parents=[(before, "previous")])
    with pytest.raises(DataError, match="of the rows from x-preferences@v000001: answers of people without"):
        exported(store, version, "trl")
    shutil.rmtree(before.path)
    with pytest.raises(DataError, match="x-preferences@v000001: what people agreed to is not known"):
        exported(store, version, "trl")


def test_where_consent_is_required_only_a_name_lets_rows_leave(store: Store) -> None:
    before = preferences(store, [preference("p", "a", "b")], [vote("x", ANN, "a")], consent="by people")
    required = {"consent": "by people", REQUIRED: {"consent": True}}
    with store.draft("x-preferences", kind="preferences", stage="x", governance=required) as draft:
        for split, config in (("train", "default"), ("train", "votes")):
            draft.write_rows(split, [], config, carry=before)
    args = ["export", "x-preferences", str(store.root.parent / "a.jsonl"), "--format", "trl"]
    args += ["--root", str(store.root)]
    with pytest.raises(StoreError, match=r"may not leave for .*a\.jsonl: x-preferences@v000002, train: answ"):
        data.main([*args, "--without-consent", "Signed on paper."])
    assert not (store.root.parent / "a.jsonl").exists()
    assert data.main([*args, "--override", "Signed on paper.", "--by", "Ann"]) == 0
    about = json.loads(about_path(store.root.parent / "a.jsonl").read_text())
    assert about["without_consent"] == "Signed on paper. (Ann)"
    assert [event.event for event in AuditLog(store.root).events()] == ["refused", "overridden"]


# Ties


def test_ties_without_their_texts_are_counted(store: Store) -> None:
    votes, _ = tied(store, "p")
    _, done = exported(store, preferences(store, [preference("p", "a", "b")], votes), "jsonl")
    kinds = ("ties", "pairs with both bad")
    assert done.left_out == {f"{kind}: their texts are not at hand": 1 for kind in kinds}
    assert done.rows == 1


def test_what_several_votes_come_to(store: Store) -> None:
    names = ["tie", "bad", "half", "decided"]
    made = {n: Comparison("p", f"{n} 1", f"{n} 2") for n in names}
    said = {
        "tie": ["tie", "tie", "both_bad", "a"],  # 3 of 4, mostly a tie
        "bad": ["both_bad", "both_bad", "tie"],
        "half": ["tie", "a"],  # not more than half
        "decided": ["tie", "tie", "a"],  # has a row all the same
    }
    votes = [machine(made[n].id, f"judge {i}", choice) for n in names for i, choice in enumerate(said[n])]
    row = preference("p", "decided 1", "decided 2")
    parents = [(comparisons(store, list(made.values())), "comparisons")]
    out, _ = exported(store, preferences(store, [row], votes, parents), "jsonl")
    assert {(r["chosen"], r["tie"], r["both_bad"]) for r in map(json.loads, out.open())} == {
        ("decided 1", False, False),
        ("tie 1", True, False),
        ("bad 1", True, True),
    }


def test_outcomes_and_items_of_a_version_by_people(store: Store) -> None:
    # The votes say tie, the operator decided; the other one is a tie by the outcome alone.
    schema = {"comparison_id": "string", "choice": "string"}
    outcomes = [{"comparison_id": "k1", "choice": None}, {"comparison_id": "k2", "choice": "tie"}]
    outcomes += [{"comparison_id": None, "choice": "tie"}]
    items = [{"id": k, "prompt": "p", "completions": json.dumps([f"{k} ü", "b"])} for k in ("k1", "k2")]
    version = preferences(
        store,
        [preference("p", "a", "b")],
        [vote("k1", ANN, "tie", "sha")],
        consent="by people",
        configs={
            "outcomes": (outcomes, schema),
            "items": (items, dict.fromkeys(("id", "prompt", "completions"), "string")),
        },
    )
    out, done = exported(store, version, "jsonl")
    assert [r["chosen"] for r in map(json.loads, out.open())] == ["a", "k2 ü"]
    assert not done.left_out


# Formats


@pytest.mark.parametrize("format", ["ultrafeedback", "shp", "helpsteer", "arena", "argilla", "label_studio"])
def test_sides_are_a_coin(store: Store, format: ExportFormat) -> None:
    # 3.3 standard deviations of Binomial(400, 1/2) are 33. Mutation caught: the chosen one always first.
    version = preferences(store, [preference("p", f"good {i}", f"awful {i}") for i in range(400)])
    text = exported(store, version, format)[0].read_text()
    rows = json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines()))
    first = [json.dumps(row).find("good") < json.dumps(row).find("awful") for row in rows]
    assert abs(sum(first) - 200) <= 33


def test_what_each_format_looks_like(store: Store) -> None:
    version = preferences(store, [preference("User: Why?\n\nAssistant:", " Yes", " No", 2.0)])

    def only(format: ExportFormat) -> dict[str, Any]:
        text = exported(store, version, format, force=True)[0].read_text()
        return (json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines())))[0]

    user = {"role": "user", "content": "Why?"}
    yes, no = ({"role": "assistant", "content": said} for said in ("Yes", "No"))
    assert only("conversational") == {"prompt": [user], "chosen": [yes], "rejected": [no], "margin": 2.0}
    assert only("hh") == {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Yes",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No",
    }
    # By hand: of the two sides only which is which is the coin's.
    first = only("shp")["human_ref_A"] == "Yes"
    sides = ("Yes", "No") if first else ("No", "Yes")
    assert only("shp") == {
        "history": "Why?",
        "human_ref_A": sides[0],
        "human_ref_B": sides[1],
        "labels": int(first),
    }
    assert only("helpsteer") == {
        "context": [user],
        "response1": sides[0],
        "response2": sides[1],
        "overall_preference": -2 if first else 2,
    }
    assert only("ultrafeedback") == {
        "instruction": "Why?",
        "completions": [{"response": said, "overall_score": float(said == "Yes")} for said in sides],
    }
    arena = only("arena")
    assert arena["winner"] == ("model_a" if first else "model_b")
    assert arena["conversation_a"] == [user, yes if first else no]
    argilla = only("argilla")
    assert argilla["fields"]["response1"] == f" {sides[0]}"
    (response,) = argilla["responses"]["preference"]
    assert (response["value"], response["status"]) == (f"response{1 if first else 2}", "submitted")
    assert str(uuid.UUID(response["user_id"])) == response["user_id"]  # Argilla takes nothing else
    studio = only("label_studio")
    assert studio["annotations"][0]["result"] == [
        {
            "id": f"ours-{studio['data']['id'][:16]}",
            "from_name": "comparison",
            "to_name": "comparison",  # its page shows no answer where this is anything else
            "type": "pairwise",
            "value": {"selected": "left" if first else "right"},
        }
    ]


def test_a_prompt_that_is_no_conversation_becomes_a_turn(store: Store) -> None:
    version = preferences(store, [preference("Say so:", "yes", "no")])
    out, done = exported(store, version, "conversational")
    assert json.loads(out.read_text())["prompt"] == [{"role": "user", "content": "Say so:"}]
    assert done.lost["prompts or blanks as they stood"] == 1
    out, done = exported(store, version, "hh")
    assert json.loads(out.read_text())["chosen"] == "\n\nHuman: Say so:\n\nAssistant:yes"
    assert done.lost["prompts or blanks as they stood"] == 1


def test_margins_become_strengths_of_1_to_3(store: Store) -> None:
    margins = [7.0, 2.4, 0.1, 0.0, None, 3.0]
    rows = [preference(CHAT, f" a{i}", f" b{i}", margin) for i, margin in enumerate(margins)]
    out, done = exported(store, preferences(store, rows), "helpsteer")
    assert [abs(json.loads(line)["overall_preference"]) for line in out.open()] == [3, 2, 1, 1, 1, 3]
    assert (done.lost["margins"], done.lost["absent margins"]) == (4, 1)


def test_what_would_be_read_as_something_else_is_left_out(store: Store) -> None:
    rows = [
        preference("User: a\n\nAssistant:", " b", " c"),
        preference("System: s\n\nUser: a\n\nAssistant:", " b", " c"),
        preference("User: a\n\nAssistant:", " b\n\nHuman: x\n\nAssistant: y", " c"),
    ]
    _, done = exported(store, preferences(store, rows), "hh")
    # Mutation caught: rows are written without being read back.
    assert done.rows == 1
    assert done.left_out == {
        "not for hh: it has a system turn": 1,
        "not for hh: prompts differ": 1,
    }


def test_implicit_prompts_lose_their_end(store: Store) -> None:
    rows = [preference("The film", " was good", " was bad"), preference("A:", " yes", " no")]
    out, done = exported(store, preferences(store, rows), "trl_implicit")
    assert json.loads(out.read_text().splitlines()[0]) == {
        "chosen": "The film was good",
        "rejected": "The film was bad",
    }
    assert done.lost == {"prompts or blanks as they stood": 1, "ids of rows": 2}


def test_unpaired_has_each_opinion_once(store: Store) -> None:
    rows = [preference("p", "a", "b"), preference("p", "a", "c")]
    out, done = exported(store, preferences(store, rows), "unpaired")
    found = [tuple(json.loads(line).values()) for line in out.read_text().splitlines()]
    assert found == [("p", "a", True), ("p", "b", False), ("p", "c", False)]
    assert (done.rows, done.preferences) == (3, 2)


def test_thumbs_are_exported_as_they_were_given(store: Store) -> None:
    row = {"prompt": "p", "annotator": ANN}
    thumbs = [row | {"id": c, "completion": c, "label": c == "a"} for c in "abc"]
    version = preferences(
        store,
        [preference("p", "a", "b")],
        [vote("x", ANN, "a", "sha")],
        configs={"unpaired": (thumbs, UNPAIRED)},
    )
    out, _ = exported(store, version, "unpaired")
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found == [{"prompt": "p", "completion": c, "label": c == "a"} for c in "abc"]
    assert exported(store, version, "trl")[1].rows == 1


def test_label_studio_has_the_project_beside_it(store: Store) -> None:
    version = preferences(store, [preference("p", "a", "b")])
    out, done = exported(store, version, "label_studio")
    assert done.label_config == f"{out}.xml"
    assert json.loads(about_path(out).read_text())["label_config"] == done.label_config
    controls = read_label_config(Path(done.label_config)).controls
    task = json.loads(out.read_text())[0]
    (result,) = task["annotations"][0]["result"]
    assert controls == {result["from_name"]: Control("pairwise", ("answer1", "answer2"))}
    assert set(controls[result["from_name"]].fields) <= set(task["data"])
    (tmp := Path(done.label_config)).write_text("mine")
    out.unlink(), about_path(out).unlink()
    with pytest.raises(StoreError, match="exists already"):
        exported(store, version, "label_studio")
    assert tmp.read_text() == "mine"


@pytest.mark.parametrize("format", ["argilla", "label_studio"])
def test_people_who_answer_later_are_not_who_answered_first(store: Store, format: ExportFormat) -> None:
    out, _ = exported(store, preferences(store, [preference("p", "a", "b", by=ANN)]), format)
    rows = json.loads(out.read_text())
    if format == "argilla":
        answers = rows[0]["responses"]["preference"]
        answers.append({**answers[0], "user_id": str(uuid.UUID(int=7))})
    else:  # what is imported belongs to the account that imports it
        answers = rows[0]["annotations"]
        answers[0]["completed_by"] = 1
        answers.append({"completed_by": 1, "result": [{**answers[0]["result"][0], "id": "Xy-12ab"}]})
    out.write_text(json.dumps(rows))
    found = read(out, format)[1]
    assert ANN in found
    assert len(found) == 2


# Files


def test_nothing_is_overwritten_unasked(store: Store) -> None:
    version = preferences(store, [preference("p", "a", "b")])
    out, _ = exported(store, version, "trl")
    out.write_text("mine")
    with pytest.raises(StoreError, match=r"exists already\..*--force"):
        exported(store, version, "trl")
    assert out.read_text() == "mine"
    exported(store, version, "trl", force=True)
    assert json.loads(out.read_text())["chosen"] == "a"


def test_a_failed_export_leaves_what_was_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = preferences(store, [preference("p", "a", "b")])
    out, _ = exported(store, version, "trl")
    out.write_text("mine")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device; nothing was written\."):
        exported(store, version, "trl", force=True)
    # Mutations caught: written in place; the temporary file left behind.
    assert out.read_text() == "mine"
    assert sorted(p.name for p in out.parent.iterdir()) == ["data", "trl.jsonl", "trl.jsonl.about"]


def test_the_note_is_no_file_of_rows(store: Store) -> None:
    out, _ = exported(store, preferences(store, [preference("p", "a", "b")]), "trl")
    assert len(read(out.parent, "trl")[0]) == 1


@pytest.mark.parametrize(
    ("name", "format", "fact"),
    [
        ("a.csv", "trl", r"a\.csv: is no name for trl\. Let it end in \.jsonl or \.json"),
        ("a.jsonl", "csv", r"end in \.csv"),
        ("a.json", "jsonl", r"end in \.jsonl\."),
        ("no/a.jsonl", "trl", "there is no directory"),
    ],
)
def test_refused_names(store: Store, name: str, format: ExportFormat, fact: str) -> None:
    version = preferences(store, [preference("p", "a", "b")])
    with pytest.raises((DataError, StoreError), match=fact):
        export(store, version, store.root.parent / name, format)


def test_refused_versions(store: Store) -> None:
    with pytest.raises(DataError, match="holds comparisons, not preferences"):
        exported(store, comparisons(store, []), "trl")
    version = preferences(store, [preference("System: s\n\nAssistant:", " b", " c")])
    with pytest.raises(DataError, match='no split "test"'):
        exported(store, version, "trl", split="test")
    with pytest.raises(DataError, match="split train has nothing for hh: 0 rows; left out: not for hh: it has"):
        exported(store, version, "hh")
    assert sorted(p.name for p in store.root.parent.iterdir()) == ["data"]


def test_the_line_says_what_is_lost(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    votes, parents = tied(store, "p")
    preferences(store, [preference("p", " a", " b", 0.5), preference("p", " c", " d")], votes, parents)
    out = store.root.parent / "a.json"
    args = ["export", "x-preferences", str(out), "--root", str(store.root), "--format", "label_studio"]
    assert data.main(args) == 0
    assert capsys.readouterr().out == (
        f"x-preferences@v000001 (train) -> {out}: 2 rows; "
        "left out: ties: label_studio has none (1), pairs with both bad: label_studio has none (1)\n"
        f"the project to import it into: paste {out}.xml under Settings, Labeling Interface, Code\n"
    )
    assert data.main([*args[:2], str(out.with_suffix(".jsonl")), *args[3:5], "--format", "trl", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["lost"]) == (2, {"margins, as some rows have none": 1, "ids of rows": 2})
    assert said["left_out"] == {"ties: trl has none": 1, "pairs with both bad: trl has none": 1}
