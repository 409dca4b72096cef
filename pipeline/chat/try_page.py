"""try: serve a page on which people talk to a policy beside its base, and vote on the answers."""

from __future__ import annotations

import argparse

from pipeline.base.cli import run_module
from pipeline.base.errors import ConfigError
from pipeline.chat import options
from pipeline.labelling.settings import LabelSection

PORT = 8766


def parser() -> argparse.ArgumentParser:
    parser = options.parser(
        "try", "Serve a page to talk to a policy beside its base; what people say of the answers trains the next."
    )
    parser.add_argument(
        "--people", nargs="+", default=["me"], metavar="NAME", help="a link for each (default: me)"
    )
    parser.add_argument(
        "--withdraw", nargs="+", default=[], metavar="NAME", help="whose link works no longer; the votes stay"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="any other address is reachable by others (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="0: any that is free (default: %(default)s)")
    parser.add_argument(
        "--public-url", metavar="URL", help="where a proxy serves the page, such as https://try.example.org"
    )
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--consent", metavar="FILE", help="the text to agree to; there is a short default")
    return parser


def page_settings(args: argparse.Namespace) -> LabelSection:
    """The page's settings. Raises ConfigError for wrong ones."""
    try:
        return LabelSection(
            host=args.host,
            port=args.port,
            public_url=args.public_url,
            annotators=args.people,
            title=args.title,
            consent=args.consent,
        )
    except ValueError as err:
        raise ConfigError(options.WHERE, f"{err}.") from err


def main(argv: list[str] | None = None) -> int:
    """Check the command line, then import torch and serve.

    Raises:
        PipelineError: there is no such policy, or it does not load; the address cannot be bound.
    """
    args = parser().parse_args(argv)
    if args.publish:
        return options.publish(args)
    page_settings(args)
    options.served_of(args)
    return run_module("pipeline.chat.web.serve", argv or [])
