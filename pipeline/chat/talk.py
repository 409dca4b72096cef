"""chat: talk to a policy in the terminal, beside its base, and vote on the answers."""

from __future__ import annotations

import argparse

from pipeline.base.cli import run_module
from pipeline.chat import options


def parser() -> argparse.ArgumentParser:
    parser = options.parser(
        "chat", "Talk to a policy beside its base; what you say of the answers trains the next."
    )
    parser.add_argument("--as", dest="person", default="me", metavar="NAME", help="who votes (default: me)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check the command line, then import torch and talk.

    Raises:
        PipelineError: there is no such policy, or it does not load.
    """
    args = parser().parse_args(argv)
    if args.publish:
        return options.publish(args)
    options.served_of(args)
    return run_module("pipeline.chat.terminal", argv or [])
