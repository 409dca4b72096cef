"""Every task and annotator keeps its contract. A new plugin needs one line in a table here, and no new test."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

import pipeline.annotators
import pipeline.tasks
from pipeline.annotators import Annotator, Context, Readers, Source, load_annotator
from pipeline.base.errors import ConfigError
from pipeline.base.plugins import load_plugin
from pipeline.base.records import Abstention, Annotation, Comparison
from pipeline.tasks import HasWritten, Task, load_task, written_texts
from tests.helpers.openenv_double import Sums, served_for_ever
from tests.helpers.row_files import write_rows

Args = Callable[[Path], dict[str, Any]]

EXAMPLE = "pipeline.project.files.my.task"
"""The task that ``init`` gives a project as an example, by a dotted path as users name theirs."""
TEMPLATE = "pipeline.project.new_task.new_task"
"""What ``new`` writes."""


def rows_file(directory: Path) -> str:
    path = directory / "rows.jsonl"
    rows = (
        {"prompt": f"Number {i} is", "chosen": f" good {i}", "rejected": f" bad {i}", "text": f"{i} b c d e f g h"}
        for i in range(60)
    )
    return write_rows(path, rows)


def tiny_model(directory: Path) -> str:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "good", "bad", "Number", "is"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        directory
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForSequenceClassification(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(directory)
    return str(directory)


def highway(_: Path) -> dict[str, Any]:
    pytest.importorskip("highway_env", reason="needs the extra `driving`")
    return {"horizon": 2, "train_seeds": 6, "test_seeds": 6, "corpus_size": 20}


@functools.cache
def sums() -> str:
    """The address of a server of one-turn sums, there until the tests end."""
    return served_for_ever(Sums()).url


# The least options that each plugin needs to run on its own, without a network: {module: options}.
TASKS: dict[str, Args] = {
    "driving": highway,
    "environment": lambda directory: {
        "env": "tests.helpers.corridor:Corridor",
        "actions": ["left", "right"],
        "train_seeds": 6,
        "test_seeds": 6,
        "corpus_size": 20,
    },
    "http_environment": lambda directory: {
        "url": sums(),
        "prompt": "task.question",
        "action": "answer",
        "refused_score": 0.0,
        "train_seeds": 6,
        "test_seeds": 6,
    },
    "chat": lambda directory: {"conversations": 60, "corpus_size": 100, "chat_template": None},
    "continuation": lambda directory: {"dataset": rows_file(directory)},
    "drawing": lambda directory: {"corpus_size": 100},
    "music": lambda directory: {"corpus_size": 100, "openings": 200},
    "news": lambda directory: {"corpus_size": 100},
    "prompts": lambda directory: {"dataset": rows_file(directory), "corpus_column": "chosen", "gold": "vader"},
    "random_walks": lambda directory: {"corpus_size": 100},
    "requests": lambda directory: {},
    "reviews": lambda directory: {"corpus_size": 100},
    "tales": lambda directory: {"corpus_size": 100},
    EXAMPLE: lambda directory: {},
    TEMPLATE: lambda directory: {},
}
ANNOTATORS: dict[str, Args] = {
    "classifier": lambda directory: {"model": tiny_model(directory), "device": "cpu"},
    "discriminator": lambda directory: {},
    "oracle": lambda directory: {},
    "readers": lambda directory: {},
    "replay": lambda directory: {"dataset": rows_file(directory)},
}


def modules(package: Any) -> list[str]:
    # People are no plugin: they are asked through a page, and judge nothing when called.
    found = (m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_" and not m.ispkg)
    return sorted(name for name in found if name != "human")


def args_of(table: dict[str, Args], table_name: str, name: str, directory: Path) -> dict[str, Any]:
    if name not in table:
        pytest.fail(
            f'"{name}" is not checked yet: add it to {table_name} in {Path(__file__).name}, '
            "with the least options that it needs to run without a network.",
            pytrace=False,
        )
    return table[name](directory)


def length(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    return [float(len(completion)) for completion in completions]


def written(seed: int) -> list[str]:
    return ["Number 1 is good good", "Number 2 is bad bad bad", "Number is good"]


def check_module(module: Any, options: str, public: Sequence[str]) -> None:
    assert module.__doc__, "the module's first line says what it is and what it leaves out"
    cls = getattr(module, options)
    assert is_dataclass(cls), f"{options} is a dataclass: its fields are the options"
    own = inspect.getdoc(cls)
    assert own, f"{options} says what each option means"
    assert not own.startswith(f"{options}("), f"{options} has only the docstring that dataclass makes"
    for name in public:
        assert inspect.getdoc(getattr(module, name)), f"{name} has a docstring"


def check_unknown_option(load: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"no_such_option": 1})
    assert "no_such_option" in str(caught.value)
    assert "\n" not in str(caught.value)


# Tasks


@pytest.fixture(params=[*modules(pipeline.tasks), EXAMPLE, TEMPLATE])
def make_task(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Task]:
    args = args_of(TASKS, "TASKS", request.param, tmp_path)
    check_module(load_plugin("pipeline.tasks", request.param, "configs/x.yaml", "task"), "Task", [])
    check_unknown_option(lambda extra: load_task(request.param, args | extra, "configs/x.yaml"))
    return lambda: load_task(request.param, args, "configs/x.yaml")


def test_task_interface(make_task: Callable[[], Task]) -> None:
    task = make_task()
    assert isinstance(task, Task)
    assert isinstance(task.completion_tokens, int)
    assert task.completion_tokens > 0
    assert task.gold_name is None or task.gold_name.strip()


def test_task_prompts(make_task: Callable[[], Task]) -> None:
    task = make_task()
    train, test = task.prompts("train", None, 0), task.prompts("test", None, 0)
    assert train
    assert test
    assert all(isinstance(prompt, str) and prompt.strip() for prompt in train + test)
    assert not set(train) & set(test), "a prompt is in both splits"
    for split, there in (("train", train), ("test", test)):
        assert make_task().prompts(split, None, 0) == there, "not the same for the same seed"  # type: ignore[arg-type]
        for n in (1, len(there), len(there) + 3):
            drawn = make_task().prompts(split, n, 1)  # type: ignore[arg-type]
            assert drawn == task.prompts(split, n, 1)  # type: ignore[arg-type]
            assert len(drawn) == n
            assert set(drawn) <= set(there)
        assert set(task.prompts(split, len(there), 1)) == set(there), "some prompts never come"  # type: ignore[arg-type]
    assert task.prompts("train", None, 0) != task.prompts("train", None, 1), "the seed changes nothing"


def test_task_corpus(make_task: Callable[[], Task]) -> None:
    corpus = make_task().corpus(0)
    if corpus is None:
        return
    assert corpus
    for text in corpus:
        assert text.strip() if isinstance(text, str) else text[-1]["role"] == "assistant"
    assert list(make_task().corpus(0) or []) == list(corpus)


def test_task_written(make_task: Callable[[], Task]) -> None:
    texts = written_texts(make_task(), 0)
    corpus = make_task().corpus(0)
    conversations = bool(corpus) and not isinstance(corpus[0], str)  # no text of a person to tell from another's
    assert (texts is None) == (corpus is None or conversations)
    if texts is None:
        return
    assert all(isinstance(text, str) and text.strip() for text in texts)
    assert list(written_texts(make_task(), 0) or []) == list(texts)
    for split in ("train", "test"):  # what is held out is written about too
        prompts = tuple(make_task().prompts(split, None, 0))
        assert isinstance(make_task(), HasWritten) is False or any(text.startswith(prompts) for text in texts)


def test_task_gold(make_task: Callable[[], Task]) -> None:
    task = make_task()
    prompts = task.prompts("train", 4, 0)
    completions = [" good and wonderful.", " bad and awful.", "", " \n"]
    scores = task.gold_scores(prompts, completions)
    assert (scores is None) == (task.gold_name is None), "gold_name is None exactly where there is no gold score"
    assert task.gold_scores([], []) == (None if scores is None else [])
    if scores is not None:
        assert len(scores) == 4
        assert all(isinstance(score, float) and math.isfinite(score) for score in scores)
        assert task.gold_scores(prompts[::-1], completions[::-1]) == scores[::-1], "a score depends on the others"


# Annotators

COMPARISONS = [Comparison(f"Number {i} is", " good" * (1 + i % 3), " bad" * (1 + i % 4)) for i in range(20)]
COMPARISONS.append(Comparison("Number is", "", " good"))
READERS = {"r1": length, "r2": length}


@pytest.fixture(params=modules(pipeline.annotators))
def make_annotator(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[int], Annotator | Readers | Source]:
    args = args_of(ANNOTATORS, "ANNOTATORS", request.param, tmp_path)
    module = importlib.import_module(f"pipeline.annotators.{request.param}")
    check_module(module, "Options", ["build"])

    def make(seed: int) -> Annotator | Readers | Source:
        return load_annotator(request.param, args, context_of(seed))

    def context_of(seed: int) -> Context:
        return Context(length, seed, "configs/x.yaml", written=written, readers=READERS)

    context = context_of(0)
    check_unknown_option(lambda extra: load_annotator(request.param, args | extra, context))
    return make


def test_annotator(make_annotator: Callable[[int], Annotator | Readers | Source]) -> None:
    annotator = make_annotator(0)
    assert annotator.name.strip()
    kinds = [isinstance(annotator, kind) for kind in (Annotator, Readers, Source)]
    assert kinds.count(True) == 1, "one or the other"
    if isinstance(annotator, Readers):
        check_readers(annotator, make_annotator)
    elif isinstance(annotator, Source):
        check_source(annotator, make_annotator)
    else:
        check_annotator(annotator, make_annotator)


def check_annotator(annotator: Annotator, make: Callable[[int], Annotator | Readers | Source]) -> None:
    judged = list(annotator.annotate_all(COMPARISONS))
    assert [j.comparison_id for j in judged] == [c.id for c in COMPARISONS], "one answer each, in order"
    assert {j.annotator for j in judged} == {annotator.name}
    for answer in judged:
        if isinstance(answer, Abstention):
            assert answer.reason.strip()
        else:
            assert answer.choice in ("a", "b", "tie", "both_bad")
    assert [choice(annotator.annotate(c)) for c in COMPARISONS] == [choice(j) for j in judged], "one = many"
    fresh = make(0)
    assert isinstance(fresh, Annotator)
    backwards = list(fresh.annotate_all(COMPARISONS[::-1]))[::-1]
    assert [choice(j) for j in backwards] == [choice(j) for j in judged], "order or a restart matters"
    assert list(annotator.annotate_all([])) == []


def choice(answer: Annotation | Abstention) -> str:
    return answer.choice if isinstance(answer, Annotation) else answer.reason


def check_source(source: Source, make: Callable[[int], Annotator | Readers | Source]) -> None:
    judged = list(source.judged())
    assert judged
    assert all(annotation.comparison_id == comparison.id for comparison, annotation in judged)
    assert {annotation.annotator for _, annotation in judged} == {source.name}
    assert {annotation.choice for _, annotation in judged} >= {"a", "b"}, "the better one always on the same side"
    assert json.loads(json.dumps(source.report())) == source.report(), "the report goes into a manifest"
    fresh = make(0)
    assert isinstance(fresh, Source)
    assert list(fresh.judged()) == judged


def check_readers(readers: Readers, make: Callable[[int], Annotator | Readers | Source]) -> None:
    texts = [(c.prompt, c.completion_a) for c in COMPARISONS]
    opinions = list(readers.opinions(texts))
    assert opinions
    assert {opinion.annotator for opinion in opinions} <= set(READERS)
    assert [o.number for o in opinions] == sorted(o.number for o in opinions)
    assert {o.number for o in opinions} <= set(range(len(texts)))
    fresh = make(0)
    assert isinstance(fresh, Readers)
    assert list(fresh.opinions(texts)) == opinions
    assert list(readers.opinions([])) == []
