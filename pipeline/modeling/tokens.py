"""Encode text to token ids and decode it, the same way in every stage.

A prompt and its completion are tokenised separately and joined as ids: PPO continues the prompt's ids, and the
reward model has to see the same ids. A special token that is written in a text, such as ``<|im_end|>`` of a chat
template or ``<sep>`` in a user's rows, is encoded as that token, and a sampled one stays in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from pipeline.base.errors import ModelError, first_line
from pipeline.formats.detect import Message, Render, render_plain
from pipeline.formats.judged import Refused
from pipeline.modeling.loading import load_tokenizer
from pipeline.modeling.types import CausalLM, Device, Tokenizer

BASE_TEMPLATE = "base"
"""As ``chat_template`` of a task: the template of the base model."""


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
    """Ids of each prompt, never empty: an empty prompt becomes the token a document starts with.

    Longer ones lose their beginning, as a completion continues the end.
    """
    if not prompts:
        return []
    bos_id = cast("int | None", tokenizer.bos_token_id)
    start = bos_id if bos_id is not None and _usable(tokenizer, bos_id) else eos_id(tokenizer)
    rows = encode_completions(tokenizer, prompts)
    return [(row or [start])[-max_length:] if max_length else (row or [start]) for row in rows]


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], max_length: int | None = None
) -> list[int]:
    """Ids of a conversation up to the assistant's answer, as :func:`chat_render` writes it."""
    return encode_prompts(tokenizer, [chat_render(tokenizer)(messages, "")[0]], max_length)[0]


def chat_render(tokenizer: Tokenizer) -> Render:
    """A function that renders messages as text: by the tokenizer's chat template, or plainly if it has none."""
    if not getattr(tokenizer, "chat_template", None):
        return render_plain

    def render(messages: Sequence[Message], answer: str) -> tuple[str, str]:
        try:
            text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
            return cast("str", text), answer
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as err:
            roles = ", ".join(message["role"] for message in messages[:6]) + (", ..." if len(messages) > 6 else "")
            raise ModelError(
                getattr(tokenizer, "name_or_path", "") or "the tokenizer",
                f"its chat template refuses a conversation of the turns {roles} ({first_line(err)}).",
                "Leave chat_template out, so that turns are written out, or use roles that it accepts.",
            ) from err

    return render


def named_revision(source: str) -> tuple[str, str | None]:
    """The Hub id and the revision of ``org/name@revision``; a directory as it is."""
    repo, _, revision = source.partition("@")
    return (source, None) if Path(source).exists() else (repo, revision or None)


def template_render(source: str | None) -> Render:
    """:func:`chat_render` of the tokenizer at ``source``; None writes conversations out plainly.

    Of a Hub id it may be ``org/name@revision``.
    A conversation that the template refuses makes a row unusable, with the reason.

    Raises:
        ModelError: there is no tokenizer, or it has no chat template.
    """
    if source is None:
        return render_plain
    if source == BASE_TEMPLATE:
        what = f'"{source}" is the template of a base model, and this stage has none.'
        raise ModelError("task_args.chat_template", what, "Set base_model, or name a tokenizer.")
    tokenizer = load_tokenizer(*named_revision(source))
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            source, "the tokenizer has no chat template.", "Leave chat_template out: turns are written out."
        )
    render = chat_render(tokenizer)

    def refusing(messages: Sequence[Message], answer: str) -> tuple[str, str]:
        try:
            return render(messages, answer)
        except ModelError as err:
            raise Refused(f"{err}".removesuffix(".")) from err

    return refusing


def encode_completions(tokenizer: Tokenizer, completions: Sequence[str]) -> list[list[int]]:
    """Ids of each completion; no special token is added."""
    if not completions:
        return []
    texts = list(completions)
    if not _is_plain(type(tokenizer)) or tokenizer.split_special_tokens:
        return cast("list[list[int]]", tokenizer(texts, add_special_tokens=False)["input_ids"])
    # What calling it does, without masks and offsets: three quarters of the time.
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


@cache
def _is_plain(kind: type[Any]) -> bool:
    """Whether texts go to the tokenizers library as they are: some classes change them before, or have no such."""
    plain: Any = PreTrainedTokenizerFast
    return issubclass(kind, plain) and (kind.__call__, kind._encode_plus) == (plain.__call__, plain._encode_plus)


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of a completion up to its end-of-sequence token; other special tokens stay, padding does not."""
    return decode_all(tokenizer, text_ids(tokenizer, ids))


def text_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The ids of a completion's text: all before its end-of-sequence token, without padding."""
    row = list(ids)
    if tokenizer.eos_token_id in row:
        row = row[: row.index(tokenizer.eos_token_id)]
    return [i for i in row if i != tokenizer.pad_token_id]


def decode_all(tokenizer: Tokenizer, ids: Sequence[int], without_special: bool = False) -> str:
    """Text of all ``ids``, end-of-sequence tokens too."""
    text = tokenizer.decode(list(ids), skip_special_tokens=without_special, clean_up_tokenization_spaces=False)
    return cast("str", text)


def pad_id(tokenizer: Tokenizer) -> int:
    """An id within the embedding, for cells that every mask excludes."""
    pad = cast("int | None", tokenizer.pad_token_id)
    return pad if pad is not None and _usable(tokenizer, pad) else eos_id(tokenizer)


def eos_id(tokenizer: Tokenizer) -> int:
    """The end-of-sequence token, which :func:`pipeline.modeling.loading.load_tokenizer` requires."""
    return cast("int", tokenizer.eos_token_id)


def right_pad(rows: Sequence[Sequence[int]], fill: int, device: Device | None = None) -> tuple[Tensor, Tensor]:
    """(B, L) ids padded on the right and (B,) lengths."""
    lengths = torch.tensor([len(r) for r in rows], device=device)
    out = torch.full((len(rows), int(lengths.max())), fill, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out.to(device), lengths


def prompt_limit(model: CausalLM, completion_tokens: int) -> int:
    """The longest prompt in tokens that leaves room for a completion.

    Raises:
        ModelError: no prompt does.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    if completion_tokens >= positions:
        raise ModelError(
            f"completions of {completion_tokens} tokens",
            f"do not fit a model with {positions} positions.",
            "Lower the task's completion_tokens.",
        )
    return positions - completion_tokens


def _usable(tokenizer: Tokenizer, token_id: int) -> bool:
    # Some real tokenizers have special tokens that lie outside the vocabulary (a bos of 50256 among 53 tokens).
    return 0 <= token_id < len(tokenizer)
