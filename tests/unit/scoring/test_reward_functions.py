"""Python functions as scorers: how they are found and called, and what each of their mistakes is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.base.errors import ConfigError, ModelError
from pipeline.scoring.named_functions import load_function
from pipeline.scoring.reward_functions import FunctionScorer
from pipeline.scoring.scorer import Samples
from tests.conftest import tiny_tokenizer

# One that ended, one cut by length, an empty one and one that ended at once.
SAMPLES = Samples([[5, 6], [7], [8], [1]], [[10, 11, 51], [12, 13], [], [51]], tiny_tokenizer())


def write(tmp_path: Path, monkeypatch: Any, text: str, name: str = "my_rewards") -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / f"{name}.py").write_text(text)


def score(function: Any, samples: Samples = SAMPLES) -> torch.Tensor:
    return FunctionScorer(function, "m:f")(samples)


def test_a_function_of_the_working_directory(tmp_path: Any, monkeypatch: Any):
    write(tmp_path, monkeypatch, "def length(completions, **kwargs):\n    return [len(c) for c in completions]\n")
    path = list(sys.path)
    scorer = FunctionScorer(load_function("my_rewards:length", "c.yaml"), "my_rewards:length")
    assert sys.path == path
    scores = scorer(SAMPLES)
    assert scores.tolist() == [7.0, 7.0, 0.0, 0.0]
    assert scores.dtype == torch.float32


def test_a_function_gets_what_it_names():
    seen: dict[str, Any] = {}

    def everything(**kwargs: Any) -> list[float]:
        seen.update(kwargs)
        return [0.0] * 4

    def some(completions: list[str], completion_ids: list[list[int]], scale: float = 2.0) -> list[float]:
        return [scale * len(ids) for ids in completion_ids]

    score(everything)
    # TRL's names. Mutation caught: prompts as text where a conversation was given.
    assert set(seen) == {"prompts", "completions", "prompt_ids", "completion_ids"}
    assert seen["completion_ids"] == [[10, 11, 51], [12, 13], [], [51]]
    assert score(some).tolist() == [6.0, 4.0, 0.0, 2.0]
    chat = [{"role": "user", "content": "w5"}]
    score(everything, Samples([[5]] * 4, [[7]] * 4, tiny_tokenizer(), [chat, "w5", None, chat]))
    assert seen["prompts"] == [chat, "w5", "w5", chat]


def test_what_a_function_may_return():
    for made in (np.arange(4), torch.arange(4), (0, 1, 2, 3), iter([0, 1, 2, 3]), list(torch.arange(4)), range(4)):
        assert score(lambda completions, made=made: made).tolist() == [0, 1, 2, 3]
    assert score(lambda completions: [c == "" for c in completions]).tolist() == [0, 0, 1, 1]
    assert score(lambda completions: torch.ones(4, dtype=torch.bfloat16, requires_grad=True)).tolist() == [1] * 4

    async def later(completions: list[str]) -> list[int]:
        return [len(c) for c in completions]

    assert score(later).tolist() == [7, 7, 0, 0]
    # Nothing to score is no reason to call it.
    assert score(lambda completions: 1 / 0, Samples([], [], tiny_tokenizer())).shape == (0,)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned None, not 4 numbers."),
        (0.5, "returned 0.5, not 4 numbers."),
        (torch.tensor(0.5), "returned tensor(0.5000), not 4 numbers."),
        ("0123", "returned '0123', not 4 numbers."),
        ({0: 1, 1: 1, 2: 1, 3: 1}, "not 4 numbers."),
        ([1.0], "returned 1 numbers for 4 completions."),
        ([0, None, 0, 0], "returned None for completion 1 ('w12 w13')."),
        ([0, 0, float("nan"), 0], "returned nan for completion 2 ('')."),
        ([float("inf"), 0, 0, 0], "returned inf for completion 0 ('w10 w11')."),
        ([0, 0, 0, 1e300], "returned 1e+300 for completion 3"),
        ([0, 0, "1", 0], "returned '1' for completion 2"),
        ([[0], [0], [0], [0]], "returned [0] for completion 0"),
        ((1 / c for c in (1, 0)), "raised ZeroDivisionError: division by zero"),
    ],
)
def test_wrong_results_are_told_in_one_line(returned: Any, said: str):
    with pytest.raises(ModelError) as caught:
        score(lambda completions: returned)
    assert str(caught.value).startswith("reward function m:f: ")
    assert said in str(caught.value)
    assert "one finite number for each completion" in str(caught.value)


def test_an_exception_inside(tmp_path: Any, monkeypatch: Any):
    text = (
        "import statistics\n\ndef f(completions):\n    return [statistics.mean(c.split()) for c in completions]\n"
    )
    write(tmp_path, monkeypatch, text)
    with pytest.raises(ModelError) as caught:
        score(load_function("my_rewards:f", "c.yaml"))
    # Mutation caught: the innermost line, which is one of the standard library's.
    assert "raised TypeError" in str(caught.value)
    assert "(my_rewards.py:4)" in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(ModelError, match=r"ZeroDivisionError: division by zero \(.*functions\.py:\d+\)\."):
        score(lambda completions: 1 / 0)


def test_a_long_completion_is_shortened():
    samples = Samples([[5]], [[10] * 50], tiny_tokenizer())
    with pytest.raises(ModelError, match=r"returned nan for completion 0 \('w10 w10 .*…\)\."):
        score(lambda completions: [float("nan")], samples)


def test_functions_that_cannot_be_called_so():
    for function, said in (
        (
            lambda completions, answer: [],
            'needs an argument "answer". It is given prompts, completions, prompt_ids',
        ),
        (lambda prompts: [], "takes no completions. Define it as f(completions, **kwargs)."),
        (lambda completions, /: [], "takes no completions."),
        (lambda *args: [], "takes no completions."),
    ):
        with pytest.raises(ConfigError) as caught:
            FunctionScorer(function, "m:f", "c.yaml: ppo.reward")
        assert str(caught.value).startswith('c.yaml: ppo.reward: function "m:f" ')
        assert said in str(caught.value)


MODULE = """
limit = 3
def length(completions):
    return [len(c) for c in completions]
class Counter:
    def __call__(self, completions):
        return [1.0 for _ in completions]
class Needy:
    def __init__(self, path): ...
class Mute: ...
"""


def test_a_class_gives_an_instance(tmp_path: Any, monkeypatch: Any):
    write(tmp_path, monkeypatch, MODULE)
    assert score(load_function("my_rewards:Counter", "c.yaml")).tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("my_rewards", "is not module:function. For example: my_rewards:length"),
        ("my_rewards:", "is not module:function."),
        (":length", "is not module:function."),
        ("my-rewards:length", "is not module:function."),
        ("my_rewards.py:length", "names a file. Write it as a module: my_rewards:length"),
        ("rewards/mine.py:length", "Write it as a module: rewards.mine:length"),
        ("my_reward:length", 'no module "my_reward". Did you mean "my_rewards"?'),
        ("my_rewards.sub:length", 'no module "my_rewards.sub".'),
        ("nowhere_at_all:length", "It is looked for in the working directory"),
        ("my_rewards:lenght", 'my_rewards has no "lenght". Did you mean "length"?'),
        ("my_rewards:zzz", "It has: Counter, Mute, Needy, length"),
        ("my_rewards:limit", "is a int, which cannot be called."),
        ("my_rewards:Mute", "is a Mute, which cannot be called."),
        ("my_rewards:Needy", "Its __init__ has to work without arguments."),
    ],
)
def test_names_of_nothing(text: str, said: str, tmp_path: Any, monkeypatch: Any):
    write(tmp_path, monkeypatch, MODULE)
    with pytest.raises(ConfigError) as caught:
        load_function(text, "c.yaml: ppo.reward")
    assert str(caught.value).startswith(f'c.yaml: ppo.reward: function "{text}"')
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import not_there_at_all",
            "raised ModuleNotFoundError: No module named 'not_there_at_all' (my_rewards.py:1)",
        ),
        ("\ndef f(:\n", "raised SyntaxError: invalid syntax (my_rewards.py:2)"),
        ("x = {}['key']", "raised KeyError: 'key' (my_rewards.py:1)"),
    ],
)
def test_a_module_that_fails(text: str, said: str, tmp_path: Any, monkeypatch: Any):
    write(tmp_path, monkeypatch, text)
    with pytest.raises(ConfigError) as caught:
        load_function("my_rewards:f", "c.yaml")
    assert said in str(caught.value)
    assert caught.value.__cause__ is not None
