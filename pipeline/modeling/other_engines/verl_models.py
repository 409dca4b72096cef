"""Write a base and a reward model as verl loads them: with templates that leave our prompts as they are.

verl knows prompts as messages, which it writes with the tokenizer's chat template. Ours are texts that have been
written already, so each is one message, and the template is the message itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.base.json_values import JsonObject
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, save_model, save_tokenizer
from pipeline.modeling.tokens import encode_prompts, eos_id
from pipeline.modeling.types import Tokenizer
from pipeline.workflow.relocate import named_base

AS_IT_IS = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
AND_END = AS_IT_IS + "{{ eos_token }}"
"""For a reward model that reads its score at the end token, which verl takes off a completion."""


@dataclass(frozen=True)
class Base:
    """What the configuration has to know of the base.

    Attributes:
        start: the text of the token that stands for an empty prompt.
        positions: the most tokens it reads.
    """

    tokenizer: Tokenizer
    start: str
    positions: int

    def lengths(self, prompts: Iterable[str]) -> list[int]:
        """The tokens of each prompt."""
        return [len(row) for row in encode_prompts(self.tokenizer, list(prompts))]


def write_base(adapter: Path, directory: Path) -> Base:
    """Write the base of an adapter as a whole model.

    Raises:
        ModelError: it is gone or damaged.
    """
    source, revision = named_base(adapter)
    model, tokenizer = load_causal_lm(source, revision), load_tokenizer(source, revision)
    start = tokenizer.convert_ids_to_tokens(encode_prompts(tokenizer, [""])[0])[0]
    tokenizer.chat_template = AS_IT_IS
    save_model(cast("Any", model), tokenizer, directory)
    _set_json(directory / "generation_config.json", eos_token_id=eos_id(tokenizer), do_sample=True)
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    return Base(tokenizer, start, positions)


def write_reward(merged: Path, directory: Path) -> JsonObject:
    """Copy a merged reward model, its scores over their standard deviation, as PPO has them.

    A classifier's head has no bias, so the mean stays in: every score is higher by the same number.

    Returns:
        ``mean`` and ``std`` of raw scores, and ``offset``, by which verl's scores are higher than PPO's.
    """
    from safetensors.torch import load_file, save_file

    scoring = json.loads((merged / "scoring.json").read_text(encoding="utf-8"))
    mean, std = float(scoring["score_mean"]), float(scoring["score_std"])
    left_out = ("manifest.json", "README.md", "scoring.json")
    shutil.copytree(merged, directory, ignore=lambda _, names: [n for n in names if n in left_out])
    for file in sorted(directory.glob("*.safetensors")):
        weights = load_file(file)
        if "score.weight" in weights:
            weights["score.weight"] = (weights["score.weight"].float() / std).to(weights["score.weight"].dtype)
            save_file(weights, file, metadata={"format": "pt"})
    tokenizer = load_tokenizer(str(directory))
    tokenizer.chat_template = AND_END if scoring["score_position"] == "eos" else AS_IT_IS
    save_tokenizer(tokenizer, directory)
    return {"mean": mean, "std": std, "offset": mean / std}


def _set_json(path: Path, **values: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}, indent=2) + "\n", encoding="utf-8")
