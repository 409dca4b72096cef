"""Refuse secrets in a config, as settings are recorded in every version, its card and the logs of runs.

A secret is recognised by its key (``hub_token``, ``api_key``) or by its shape (``hf_...``). No message has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

from pipeline.base.errors import ConfigError

# After these words "token" is a piece of text, as in stop_token; otherwise it is a credential.
_TEXT_TOKEN = re.compile(
    "stop|pad|padding|eos|bos|unk|sep|cls|mask|special|start|end|image|video|audio|extra|prefix|suffix|separator"
    "|final|first|last|next|new|decoder|forced|system|user|assistant|think|per|each|answer|score|newline|chat"
)
_SECRET_WORD = re.compile("password|passwd|passphrase|passcode|secrets?|credentials?|apikey|authorization|pat")
_KEYS = frozenset([("api", "key"), ("access", "key"), ("private", "key"), ("auth", "key"), ("service", "key")])
# Last words of keys that name the place of a secret.
_PLACES = frozenset(["env", "var", "variable", "name"])
# Below these, keys are words of the user's data.
_DATA = frozenset(["columns", "choices"])

_SHAPES = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{30,}                                           # Hugging Face
    | \bhf_(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])[A-Za-z0-9]{16,}
    | \bapi_org_[A-Za-z0-9]{16,}
    | \bsk-(?:[a-z]+-)*[A-Za-z0-9_]{20,}                              # OpenAI and others
    | \b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})
    | \bAKIA[A-Z0-9]{16}\b                                            # AWS
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    | ://[^/\s:@]*:[^/\s@]+@                                          # user:password@host
    """,
    re.VERBOSE,
)


def refuse_secrets(settings: Mapping[str, Any], where: str) -> None:
    """Refuse a config that holds a secret.

    Args:
        settings: the whole config with its overrides.
        where: the file, for the message.
    Raises:
        ConfigError: it holds one; the message has the key, and the environment variable to set instead.
    """
    for key, value in settings.items():
        _look(value, str(key), where, False)


def _look(value: object, path: str, where: str, named: bool) -> None:
    named = named or _names_secret(path)
    if isinstance(value, Mapping):
        for key, below in cast("Mapping[Any, Any]", value).items():
            if _SHAPES.search(str(key)):
                raise _refusal(path, where)
            _look(below, f"{path}.{key}", where, named)
    elif isinstance(value, (list, tuple)):
        for i, below in enumerate(cast("list[Any]", value)):
            _look(below, f"{path}[{i}]", where, named)
    elif isinstance(value, str) and value.strip() and (named or _SHAPES.search(value)):
        raise _refusal(path, where)
    elif isinstance(value, int) and not isinstance(value, bool) and named and "token" not in _words(path):
        raise _refusal(path, where)  # a numeric password


def _refusal(path: str, where: str) -> ConfigError:
    shown = _SHAPES.sub("***", path)
    if shown.startswith(("evaluate.judges", "collect.sampler")):
        mend = "Remove it and set OPENAI_API_KEY, or the variable that key_env names, in the environment."
    else:
        mend = "Remove it and set HF_TOKEN in the environment."
    return ConfigError(where, f"{shown} holds a secret, and settings are recorded in what is published.", mend)


def _words(path: str) -> list[str]:
    """The words of the last key in a path: ``ppo.hubToken`` has hub and token."""
    key = re.sub(r"\[\d+\]", "", path).rpartition(".")[2]
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())


def _names_secret(path: str) -> bool:
    parents = re.sub(r"\[\d+\]", "", path).split(".")[:-1]
    words = _words(path)
    if not words or _DATA & set(parents) or words[-1] in _PLACES:
        return False
    if any(map(_SECRET_WORD.fullmatch, words)) or _KEYS & set(pairwise(words)):
        return True
    return words[-1] == "token" and not (len(words) > 1 and _TEXT_TOKEN.fullmatch(words[-2]))
