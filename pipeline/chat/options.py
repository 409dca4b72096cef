"""The command lines of ``chat`` and ``try``: what both can be told, checked before torch is imported."""

from __future__ import annotations

import argparse
import contextlib

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.terminal_text import put
from pipeline.chat import project, votes
from pipeline.chat.readers import policy_for
from pipeline.chat.served import Served, Settings, find_served
from pipeline.store.store import Store

WHERE = "command line"


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser of the options that both commands have."""
    parser = argparse.ArgumentParser(prog=as_called(f"pipeline {command}"), description=description)
    parser.add_argument(
        "policy", metavar="POLICY", help="a version such as demo-policy@v1, its directory, or an experiment (demo)"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--reader", metavar="NAME", help="the policy of this reader, of those of the experiment")
    parser.add_argument("--blind", action="store_true", help="hide which answer is whose until you have chosen")
    parser.add_argument(
        "--temperature", type=float, help="of sampling; 0: the likeliest token (default: training's)"
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="most tokens of an answer (default: training's)"
    )
    parser.add_argument("--system", metavar="TEXT", help="the system turn; '' for none (default: the task's)")
    parser.add_argument("--seed", type=int, help="answers repeat: the first question's seed, one more for each")
    parser.add_argument("--publish", action="store_true", help="make a dataset of the votes so far, and end")
    return parser


def settings_of(args: argparse.Namespace, served: Served) -> Settings:
    """The settings of answers. Raises ConfigError for a value out of its bounds."""
    temperature = served.temperature if args.temperature is None else args.temperature
    tokens = served.completion_tokens if args.max_tokens is None else args.max_tokens
    if not 0 <= temperature <= 10:
        raise ConfigError(WHERE, f"--temperature {temperature:g} should be 0 to 10.")
    if tokens < 1:
        raise ConfigError(WHERE, f"--max-tokens {tokens} should be above 0.")
    if args.seed is not None and not 0 <= args.seed < 2**48:
        raise ConfigError(WHERE, f"--seed {args.seed} should be 0 to 2^48.")
    return Settings(temperature, tokens, served.system if args.system is None else args.system, args.seed)


def served_of(args: argparse.Namespace) -> tuple[Store, Served, Settings]:
    """What a command serves. Raises as :func:`find_served` and :func:`settings_of`."""
    store = Store(args.root)
    served = find_served(
        store, args.policy if args.reader is None else policy_for(store, args.policy, args.reader)
    )
    return store, served, settings_of(args, served)


def publishing(command: str, args: argparse.Namespace, served: Served) -> str:
    """The command that publishes the votes on what is served: a reader's policy has a log of its own."""
    run = args.policy if args.reader is None else served.policy.ref
    root = "" if args.root == "data" else f' ARGS="--root {args.root}"'
    return f"make {command} RUN={run} PUBLISH=1{root}"


def publish(args: argparse.Namespace) -> int:
    """Publish the votes on a policy's answers, and print how to train on them."""
    store, served, _ = served_of(args)
    if not project.log_directory(store, served.project).is_dir():
        what = f"nobody has voted on answers of {served.project} yet."
        raise ConfigError(WHERE, what, f"Talk first: {as_called('pipeline try')} {args.policy}")
    with contextlib.closing(project.open_log(store, served.project)) as log:
        before = {version.ref for version in store.versions(f"{served.project}-chat")}
        version = project.publish(store, served.project, log)
        lines = votes.standing(log).lines()
    counts = version.manifest.stats
    rows = ", ".join(f"{counts[kind]} {kind}" for kind in ("pairs", "unpaired", "edits"))
    done = "up to date, nobody has voted since:" if version.ref in before else "wrote"
    put(f"[chat] {done} {version.ref}: {rows}")
    for line in lines:
        put(f"[chat] {line}")
    for line in project.training(version, served.project):
        put(f"[chat] train on it: {line}")
    return 0
