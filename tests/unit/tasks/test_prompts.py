"""The prompts task: where the prompts of each format come from, the corpus, and what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import stored_texts
from pipeline.base.errors import ConfigError, DataError, ModelError
from pipeline.base.records import split_of
from pipeline.tasks import Task, load_task
from tests.conftest import tiny_tokenizer
from tests.helpers.refusals import refusal
from tests.helpers.row_files import write_rows

HH = "\n\nHuman: {}\n\nAssistant:{}"


def task(dataset: str, **args: Any) -> Task:
    return load_task("prompts", {"dataset": dataset, "test_share": 0.3, **args}, "configs/x.yaml")


def everything(t: Task) -> list[str]:
    train, test = (t.prompts(split, None, 0) for split in ("train", "test"))  # type: ignore[arg-type]
    assert not set(train) & set(test)
    return sorted(train + test)


NUMBERS = [f"{i:02}" for i in range(20)]


def test_plain_prompts_are_taken_once(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": n} for n in NUMBERS * 2])
    assert everything(task(path)) == NUMBERS
    assert task(path).corpus(0) is None
    (tmp_path / "a.csv").write_text("instruction\n" + "\n".join(NUMBERS))
    assert everything(task(str(tmp_path / "a.csv"), prompt_column="instruction")) == NUMBERS


def test_messages_are_rendered(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": n}]} for n in NUMBERS])
    assert everything(task(path, prompt_column="messages")) == [f"User: {n}\n\nAssistant:" for n in NUMBERS]


def test_prompts_of_hh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"chosen": HH.format(n, " yes"), "rejected": HH.format(n, " no")} for n in NUMBERS]
    rows += [{"chosen": HH.format("", " yes"), "rejected": HH.format("", " no")}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        assert everything(task(path)) == [HH.format(n, "") for n in NUMBERS]
    assert "1 of 21 rows have no usable prompt: empty turn (1)." in caplog.text  # never silently
    corpus = task(path, corpus_column="chosen").corpus(0)
    assert set(corpus or []) == {p + " yes" for p in task(path).prompts("train", None, 0)}


def test_prompts_and_corpus_of_conversations(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": n}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }
        for n in NUMBERS
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    t = task(path, corpus_column="rejected")
    assert everything(t) == everything(task(path)) == [f"User: {n}\n\nAssistant:" for n in NUMBERS]
    assert t.corpus(0) is not None
    assert sorted(t.corpus(0) or []) == sorted(p + " no" for p in t.prompts("train", None, 0))


def test_corpus_of_any_column_is_of_the_train_side(tmp_path: Path) -> None:
    rows = [{"q": n, "answer": f" is {n}"} for n in NUMBERS]
    t = task(write_rows(tmp_path / "a.jsonl", rows), prompt_column="q", corpus_column="answer")
    # Catches: the texts of test prompts in the corpus.
    assert sorted(t.corpus(0) or []) == sorted(f"{n} is {n}" for n in t.prompts("train", None, 0))


def test_renamed_prompt_column_of_preferences(tmp_path: Path) -> None:
    rows = [{"q": n, "chosen": " a", "rejected": " b"} for n in NUMBERS]
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert everything(task(path, prompt_column="q", corpus_column="chosen")) == NUMBERS
    assert everything(task(path, prompt_column="q", format="trl")) == NUMBERS


def test_implicit_prompts_only_when_told(tmp_path: Path) -> None:
    rows = [{"chosen": f"Say {n}: yes", "rejected": f"Say {n}: no"} for n in NUMBERS]
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert everything(task(path, format="trl_implicit")) == [f"Say {n}:" for n in NUMBERS]
    assert "trl_implicit" in refused(path)


def test_limit_reads_the_first_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": n} for n in NUMBERS])
    assert everything(task(path, limit=12)) == NUMBERS[:12]


def test_named_test_split(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [{"prompt": n} for n in NUMBERS])
    write_rows(tmp_path / "test.jsonl", [{"prompt": n} for n in ["00", "20"]])
    assert task(str(tmp_path), test_split="test").prompts("test", None, 0) == ["20"]


def test_gold_is_of_the_completion_alone(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": n} for n in NUMBERS])
    assert task(path).gold_scores(["a"], [" good"]) is None
    good, same = task(path, gold="vader").gold_scores(["terrible, awful", ""], [" good", " good"]) or []
    assert good == same > 0


def refused(dataset: str, kind: type[Exception] = DataError, **args: Any) -> str:
    return refusal(kind, lambda: task(dataset, **args).prompts("train", 1, 0))


def test_too_few_prompts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "b.jsonl", [{"prompt": n} for n in NUMBERS])
    assert "20 distinct prompts; with test_share 1e-09 none falls into test. Raise" in refused(
        path, test_share=1e-9
    )
    assert "none falls into train. Lower" in refused(path, test_share=0.999999)


def test_one_prompt_is_in_both_splits_and_texts_are_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Mutation caught: the corpus with every text, those that collect.split_by=completion holds out among them.
    rows = [{"prompt": "Something funny:", "chosen": f" joke {n}", "rejected": f" pun {n}"} for n in NUMBERS]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        one = task(path, corpus_column="chosen")
        assert one.prompts("train", 3, 0) == one.prompts("test", 3, 0) == ["Something funny:"] * 3
    assert "collect.split_by=completion" in caplog.text
    learnt = [f"Something funny: joke {n}" for n in NUMBERS if split_of(f" joke {n}", 0.3) == "train"]
    assert one.corpus(0) == learnt
    assert 0 < len(learnt) < len(rows)


def test_bad_input(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"question": n} for n in NUMBERS])
    said = refused(path)
    assert said.startswith(f'{path}:1: no column "prompt"; the columns are: question.')
    assert "task_args.prompt_column" in said
    assert "task_args.corpus_column" in refused(path, prompt_column="question", corpus_column="answer")
    path = write_rows(tmp_path / "b.jsonl", [{"prompt": " "}] * 3)
    assert "3 of 3 rows have no usable prompt: empty prompt (3)" in refused(path)
    path = write_rows(
        tmp_path / "c.jsonl", [{"chosen": HH.format("a", "b"), "rejected": HH.format("a", "c"), "x": "y"}]
    )
    assert "corpus_column: chosen" in refused(path, corpus_column="x")


def test_an_unknown_format_is_refused() -> None:
    assert "one of auto, trl" in refused("a.jsonl", ConfigError, format="x")


def test_a_chat_template_writes_conversations_out_in_prompts_and_preferences(tmp_path: Path) -> None:
    from pipeline.annotators import Context
    from pipeline.annotators.replay import Options, build

    tokenizer = tiny_tokenizer()
    turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}<assistant>{% endif %}"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    template = str(tmp_path / "tokenizer")
    asked = [f"w1 w{i}" for i in range(20)]
    rows = [
        {k: [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for k, a in answers}
        for q in asked
        for answers in [(("chosen", "w3"), ("rejected", "w4"))]
    ]
    path = write_rows(tmp_path / "chat.jsonl", rows)
    written = sorted(f"<user>{q}<assistant>" for q in asked)
    assert everything(task(path, chat_template=template)) == written
    judged = [
        c for c, _ in build(Options(path, chat_template=template), Context(lambda *_: None, 0, "test")).judged()
    ]
    # Mutation caught: preferences rendered without the template, so that PPO would sample other prompts.
    assert sorted(c.prompt for c in judged) == written
    assert {c.completion_a for c in judged} == {"w3", "w4"}


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "plain")
    rows = [{"prompt": [{"role": "user", "content": "w1"}]}]
    with pytest.raises(ModelError, match="no chat template"):
        everything(task(write_rows(tmp_path / "x.jsonl", rows), chat_template=str(tmp_path / "plain")))


# What people have


def test_prompts_of_several_columns_are_joined(tmp_path: Path) -> None:
    rows = [{"context": f"Text {n}.", "question": "What?" if n != "03" else None} for n in NUMBERS]
    path = write_rows(tmp_path / "a.jsonl", rows)
    joined = [f"Text {n}.\n\nWhat?" if n != "03" else f"Text {n}." for n in NUMBERS]
    assert everything(task(path, prompt_column=["context", "question"])) == sorted(joined)
    with pytest.raises(DataError, match='no column "contexts"'):
        everything(task(path, prompt_column=["contexts", "question"]))
    sides = [row | {"chosen": "x", "rejected": "y"} for row in rows]
    path = write_rows(tmp_path / "b.jsonl", sides)
    assert everything(task(path, prompt_column=["context", "question"], format="trl")) == sorted(joined)


def test_columns_that_are_not_used_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": n, "system": "Be kind.", "id": n} for n in NUMBERS])
    assert everything(task(path)) == NUMBERS
    assert caplog.text.count("columns not used: id, system") == 1
    caplog.clear()
    path = write_rows(tmp_path / "b.jsonl", [{"prompt": n, "chosen": "x", "rejected": "y"} for n in NUMBERS])
    everything(task(path))  # the sides are collect's
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ('["one"]', "prompt is a list of texts written as text"),
        ("['one' 'two']", "prompt is a list as Python or numpy writes it"),
        ([{"role": "user", "content": "q", "tool_calls": [1]}], "prompt: a message with tool_calls"),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "ends with an answer"),
    ],
)
def test_what_is_no_prompt_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, prompt: Any, reason: str
) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": p} for p in (*NUMBERS, prompt)])
    assert everything(task(path)) == NUMBERS
    assert reason in caplog.text


def test_a_corpus_does_not_hold_the_prompt_twice(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "answer": f"Question {n}? Yes."} for n in NUMBERS]
    corpus = task(write_rows(tmp_path / "a.jsonl", rows), corpus_column="answer").corpus(0)
    assert corpus
    assert all(text.count("Question") == 1 for text in corpus)


REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turn') }}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
)


# Catches: jinja2's traceback.
def test_a_template_that_refuses_a_system_turn_says_so_in_one_line(tmp_path: Path) -> None:
    from pipeline.annotators import Context
    from pipeline.annotators.replay import Options, build

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = REFUSES_SYSTEM
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    template = str(tmp_path / "tokenizer")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    sides = {
        "chosen": [{"role": "assistant", "content": "x"}],
        "rejected": [{"role": "assistant", "content": "y"}],
    }
    rows = [{"prompt": turns, **sides}, {"prompt": turns[1:], **sides}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        list(build(Options(path, chat_template=template), Context(lambda *_: None, 0, "test")).judged())
    said = str(caught.value)
    assert "\n" not in said
    assert all(part in said for part in ("a.jsonl:1", template, "system, user", "No system turn", "chat_template"))
    # Where rows may be left out, the others are read.
    options = Options(path, chat_template=template, on_bad_row="skip")
    assert len(list(build(options, Context(lambda *_: None, 0, "test")).judged())) == 1
    with pytest.raises(DataError, match="turns system, user"):
        everything(
            task(write_rows(tmp_path / "b.jsonl", rows[:1] * 2), chat_template=template, format="conversational")
        )


# Catches: texts that are lost or doubled where they go to a file.
@pytest.mark.parametrize("args", [{}, {"test_split": "test"}])
def test_a_set_on_the_disk_is_one_in_memory(
    args: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"prompt {i // 2} ", "answer": f"answer {i}"} for i in range(200)]
    for split, part in {"train": rows[:150], "test": rows[100:]}.items():
        write_rows(tmp_path / f"{split}.jsonl", part)
    found = []
    for in_memory in (10**9, 0):
        monkeypatch.setattr(stored_texts, "IN_MEMORY", in_memory)
        t: Any = task(str(tmp_path), corpus_column="answer", **args)
        prompts = [list(t.prompts(split, n, 3)) for split in ("train", "test") for n in (None, 5, 200)]
        found.append((prompts, list(t.corpus(0)), list(t.written(0))))
    assert found[0] == found[1]
    assert len(found[0][2]) == (250 if args else 150)
