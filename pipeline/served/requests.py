"""Requests for completions, as each kind of server wants them, and the replies read back.

Read in the sources of vLLM (commit 002032e, ``entrypoints/openai/completion/protocol.py``), SGLang (004c82e,
``srt/entrypoints/openai/protocol.py``), llama.cpp (``tools/server/README.md``) and transformers 5
(``cli/serving/completion.py``). OpenAI's fields say nothing of top-k, min-p and repetition, for which vLLM takes
the model's ``generation_config.json`` and llama.cpp values of its own. Here all are switched off where the server
has a field for it, so that completions are drawn from the model's distribution at ``collect.temperature``, as this
process draws them. Needs no torch.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pipeline.base.json_values import JsonObject, dict_of
from pipeline.formats.messages import Message
from pipeline.scoring.endpoint import Transient
from pipeline.workflow.samplers import SamplerOptions

Kind = Literal["vllm", "sglang", "llamacpp", "other"]
"""A server, as ``owned_by`` of its ``/models`` names it."""

PLAIN: dict[Kind, JsonObject] = {
    # skip_special_tokens is about the text alone; the ids have all.
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    "other": {},
}
"""Fields beyond OpenAI's: no filter of the distribution, and token ids in the reply."""

_OWNERS: dict[str, Kind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
# What says that a completion came to its end, and that the limit cut it.
_ENDED = frozenset(["stop", "eos", "eos_token", "stop_sequence", "word"])
_CUT = frozenset(["length", "limit", "max_tokens"])
REFUSED = frozenset(["content_filter", "too_long"])


@dataclass(frozen=True)
class Completion:
    """One completion as the server gives it.

    Attributes:
        text: empty where it was refused.
        ids: its tokens, where the server gives them.
        finish: why it ended, in the server's word.
        fingerprint: of the server's build and settings, where it gives one.
        prompt: the prompt's tokens, or else their number, where the server says.
        alike: whether the server read the prompt as the base's tokenizer does; None where that is not known.
    """

    text: str
    finish: str
    ids: Sequence[int] | None = None
    fingerprint: str | None = None
    prompt: Sequence[int] | int | None = None
    alike: bool | None = None

    @property
    def ended(self) -> bool | None:
        """Whether the model ended it; False where the limit did; None where that is not known."""
        return True if self.finish in _ENDED else False if self.finish in _CUT else None


@dataclass(frozen=True)
class Request:
    """What is sent for completions of one prompt."""

    path: str
    body: JsonObject
    parse: Callable[[bytes], Completion]


def request(
    options: SamplerOptions, kind: Kind, prompt: str | Sequence[Message], limit: int, temperature: float
) -> Request:
    """A request for one completion; its seed is not set.

    Args:
        prompt: a text to continue, or with ``api: chat`` messages.
        limit: most tokens of a completion.
    """
    if kind == "llamacpp" and options.api == "completions":  # its OpenAI routes give no ids
        native: JsonObject = {
            "model": options.model,
            "prompt": prompt,
            "n_predict": limit,
            "temperature": temperature,
            "top_p": 1.0,
        }
        return Request("//completion", _merged(native | PLAIN[kind] | {"return_tokens": True}, options), _native)
    what: JsonObject = {"messages": list(prompt)} if options.api == "chat" else {"prompt": prompt}
    drawn: JsonObject = {"max_tokens": limit, "temperature": temperature, "top_p": 1.0, **PLAIN[kind]}
    body: JsonObject = {"model": options.model, **what, **drawn}
    if kind == "vllm" and options.api == "completions":
        body["add_special_tokens"] = False  # the prompt has all its marks
    if "max_completion_tokens" in options.request:
        del body["max_tokens"]
    path = "/chat/completions" if options.api == "chat" else "/completions"
    return Request(path, _merged(body, options), _chat if options.api == "chat" else _plain)


def kind_of(models: JsonObject, model: str) -> tuple[Kind, JsonObject | None, list[str]]:
    """The kind of server, its entry of ``model``, and the names of all its models, from a reply of ``/models``.

    llama.cpp's server answers with the one model that it has, whatever name it is asked for.
    """
    entries = [dict_of(entry) for entry in cast("list[Any]", models.get("data") or [])]
    own = next((entry for entry in entries if entry.get("id") == model), None)
    owner = str((own or (entries[0] if entries else {})).get("owned_by", "")).lower()
    kind = _OWNERS.get(re.sub(r"[^a-z]", "", owner), "other")
    if own is None and kind == "llamacpp" and len(entries) == 1:
        own = entries[0]
    return kind, own, [str(entry.get("id")) for entry in entries]


def parse_models(raw: bytes) -> JsonObject:
    """The reply of ``/models``. Raises Transient where it is something else."""
    models = _json(raw)
    if not isinstance(models.get("data"), list):
        raise Transient("the reply is not a list of models")
    return models


def _merged(body: JsonObject, options: SamplerOptions) -> JsonObject:
    return {k: v for k, v in {**body, **options.request}.items() if v is not None}


def _json(raw: bytes) -> JsonObject:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise Transient("the reply is no JSON") from err
    return dict_of(value)


def _plain(raw: bytes) -> Completion:
    reply = _json(raw)
    choice = _choice(reply)
    return _completion(reply, choice, choice.get("text"))


def _chat(raw: bytes) -> Completion:
    reply = _json(raw)
    choice = _choice(reply)
    message = dict_of(choice.get("message"))
    # A model that answers nothing has null there.
    text = "" if "content" in message and message["content"] is None else message.get("content")
    return _completion(reply, choice, text)


def _choice(reply: JsonObject) -> JsonObject:
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Transient("the reply holds no completion")
    return dict_of(choices[0])


def _completion(reply: JsonObject, choice: JsonObject, text: object) -> Completion:
    finish = str(choice.get("finish_reason") or "")
    if not isinstance(text, str) or finish in ("abort", "error"):
        raise Transient(f"the completion is none ({finish or 'no text'})")
    prompt = _ids(choice.get("prompt_token_ids") or reply.get("prompt_token_ids"))
    return Completion(
        text,
        finish,
        _ids(choice.get("token_ids")),
        str(reply.get("system_fingerprint") or "") or None,
        dict_of(reply.get("usage")).get("prompt_tokens") if prompt is None else prompt,
    )


def _native(raw: bytes) -> Completion:
    """llama.cpp's own reply."""
    reply = _json(raw)
    text, finish = reply.get("content"), str(reply.get("stop_type") or "none")
    if not isinstance(text, str):
        raise Transient("the reply holds no completion")
    return Completion(text, finish, _ids(reply.get("tokens")) or None, None, reply.get("tokens_evaluated"))


def _ids(value: object) -> Sequence[int] | None:
    """Token ids, four bytes each."""
    try:
        return array("i", cast("list[int]", value)) if isinstance(value, list) else None
    except (TypeError, OverflowError):
        return None
