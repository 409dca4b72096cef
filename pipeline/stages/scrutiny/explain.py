"""explain: print a reward model's score after every token of a completion, and what each token adds to it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.json_values import parse_json
from pipeline.base.process import quiet
from pipeline.base.terminal_text import put, put_json
from pipeline.scoring.attribution import attribute
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.printed_scores import lines
from pipeline.scoring.scorer import Conversation, Scorer
from pipeline.scoring.token_scores import token_scores
from pipeline.store.store import Store
from pipeline.trainers.arguments import has_accelerator

WHERE = "command line"


def load_reward_model(model: str, data_dir: str | Path = "data", label: str | None = None) -> Scorer:
    """The reward model ``model``: a version (``demo-reward@v1``), a directory or a Hub id.

    Args:
        label: of a classifier with several: the one whose logit is the score.
    Raises:
        PipelineError: there is no such model, or it cannot be loaded.
    """
    store = Store(data_dir)
    version = store.find_version(model)
    if version is not None and version.manifest.stage not in ("reward", "merge"):
        what = f"is {version.made_as}, not a reward model."
        raise StoreError(version.where, what, "Name one, such as demo-reward.")
    if model == "adapter" or (":" in model and version is None):
        raise ConfigError(WHERE, f"{model} is no model whose score can be followed.", "Name a reward model.")
    context = ScorerContext(WHERE, "cuda" if has_accelerator() else "cpu", store.find_version)
    return build([{"model": model, "label": label} if label else model], context, key="MODEL")


def main(argv: list[str] | None = None) -> int:
    """Print the scores.

    Raises:
        PipelineError: there is no such reward model, or the text is too long for it.
    """
    args = _parser().parse_args(argv)
    quiet()
    prompt, completion = _prompt(args.prompt), _text(args.completion)
    scorer = load_reward_model(args.model, args.root, args.label)
    course = token_scores(scorer, prompt, completion)
    attribution = attribute(scorer, prompt, completion) if args.attribution else None
    if args.json:
        more = (
            {}
            if attribution is None
            else {"attribution": asdict(attribution) | {"residual": attribution.residual}}
        )
        put_json({"model": args.model, "score": course.score, **asdict(course), "changes": course.changes, **more})
    else:
        put("\n".join(lines(args.model, course, attribution)))
    return 0


def _prompt(text: str) -> str | Conversation:
    """The prompt: a text, ``-`` for the standard input, or a conversation as JSON."""
    text = _text(text)
    if not text.lstrip().startswith("[{"):
        return text
    try:
        turns = parse_json(text)
    except ValueError as err:
        raise ConfigError("--prompt", f"begins as a conversation and is not JSON ({err}).") from err
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and all(isinstance(turn.get(k), str) for k in ("role", "content")) for turn in turns
    ):
        raise ConfigError("--prompt", 'is no conversation: [{"role": "user", "content": "..."}, ...].')
    return turns


def _text(text: str) -> str:
    """A text as given; of the standard input without the line end that ``echo`` adds, which would be a token."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline explain"),
        description="Print the score that a reward model gives a completion, cut after each of its tokens.",
    )
    parser.add_argument("model", metavar="MODEL", help="a version (demo-reward@v1), a directory or a Hub id")
    parser.add_argument(
        "--prompt", required=True, help='a text, or a conversation: [{"role": ..., "content": ...}]'
    )
    parser.add_argument("--completion", required=True, help="a text; - reads the standard input")
    parser.add_argument(
        "--attribution", action="store_true", help="divide the score over the tokens (needs captum)"
    )
    parser.add_argument("--label", help="of a classifier: the label whose score is the reward")
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser
