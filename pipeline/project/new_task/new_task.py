"""The task new_task: short product lines that should say what the thing is good for. Change it into yours.

configs/new_task.yaml runs it, my/test_new_task.py tests it. What to change is numbered 1 to 4 here and 5 in the
test. What each method is asked for is in docs/plugins.md. If your prompts or preferences are in a file, you need
no task of your own: configs/custom.yaml and docs/recipes.md read them from there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.base.records import split_of

# 1. The prompts: what your model will be asked to continue. Here every pair of a thing and a beginning; yours may
#    be the lines of a file. Some hundred are enough to begin with; a part of them is only tested on.
THINGS = (
    "lamp",
    "kettle",
    "tent",
    "clock",
    "ladder",
    "basket",
    "blanket",
    "radio",
    "bench",
    "mirror",
    "rope",
    "jug",
)
BEGINNINGS = (
    "This {} is made",
    "Our {} comes",
    "A {} like this is sold",
    "The new {} is delivered",
    "We have a {}",
    "There is a second {}",
)

# 2. Texts that show how people write in your domain: a small base is trained on them from nothing. With base_model
#    in the config, corpus() returns None and these can go.
FACTS = (" in one size", " in a plain box", " with a short guide", " in three colours")
PURPOSES = (" for long winters", " for small kitchens", " for people who travel", " for a first flat")


@dataclass
class Task:
    """Continue the beginning of a product line.

    The fields are options: ``task_args: {test_share: 0.5}`` in the config sets one.

    Args:
        completion_tokens: most tokens in a completion.
        test_share: share of the prompts that nothing is trained on.
    """

    completion_tokens: int = 16
    test_share: float = 0.3
    # 3. The name and scale of the gold score below, as tables and figures show it; None without one.
    gold_name: str | None = field(init=False, default="says what it is good for (0 or 1)")

    def corpus(self, seed: int) -> list[str]:
        """Texts to train a small base on: beginnings of the train split, with any of the endings."""
        draw = random.Random(f"corpus {seed}")
        prompts = self.prompts("train", None, seed)
        return [f"{draw.choice(prompts)}{draw.choice([*FACTS, *PURPOSES])}." for _ in range(2000)]

    def prompts(self, split: Literal["train", "test"], n: int | None, seed: int) -> list[str]:
        """``n`` prompts of a split in the seed's order, again from the start if there are fewer; None: all."""
        every = (beginning.format(thing) for beginning in BEGINNINGS for thing in THINGS)
        chosen = [prompt for prompt in every if split_of(prompt, self.test_share) == split]
        random.Random(f"{split} {seed}").shuffle(chosen)
        wanted = len(chosen) if n is None else n
        return (chosen * (1 + wanted // len(chosen)))[:wanted]

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float] | None:
        """How good each completion truly is. Nothing is trained on it: it judges what the training has done.

        4. Write what you would check by hand. Return None, and set gold_name to None, where no rule can tell:
        judges (``evaluate.judges``) or people (configs/people.yaml) do it then. Ask of every rule what the worst
        text is that passes it, and put that text into the test: PPO will find it.
        """
        return [float(any(text == f"{purpose}." for purpose in PURPOSES)) for text in completions]
