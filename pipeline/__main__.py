"""``python -m pipeline``, installed as ``rlhf-pipeline``: the commands on data, keys and runs, and the stages."""

from __future__ import annotations

import difflib
import os
import sys
from typing import NoReturn

from pipeline.base.cli import as_called, run_cli, run_module
from pipeline.base.terminal_text import put

_USAGE = (
    ("pipeline init DIR", "a project of your own: configs, Makefile, docs, an example of a task"),
    ("pipeline new NAME", "a task of your own: commented, with its test and a config that runs"),
    ("pipeline data look FILE", "how the rows of a file would be read, before anything is trained"),
    ("pipeline data COMMAND", "versions: list, show, diff, tag, verify, gc, export, scrub, forget"),
    ("pipeline keys [SECTION]", "what a config may say: keys, types, defaults, what each is for"),
    ("pipeline doctor RUN", "what is wrong with a PPO run, and what to change"),
    ("pipeline merge ADAPTER", "a policy or a reward model as one whole model, for other engines"),
    ("pipeline export-verl RUN --out DIR", "a PPO run as verl trains it, or what verl would train instead"),
    ("pipeline chat POLICY", "talk to a policy beside its base, and vote on the answers"),
    ("pipeline try POLICY", "the same on a page, for several people"),
    ("pipeline explain REWARD_MODEL", "its score token by token: --prompt TEXT --completion TEXT"),
    ("pipeline screen POLICY", "harmful completions, policy beside base; --classifier MODEL"),
    ("pipeline fairness POLICY", "whether scores or texts go by names and groups; --swaps FILE"),
    ("pipeline approve VERSION ...", "sign versions off; `audit show` and `audit verify` read the log"),
    ("pipeline publish REF ...", "to the Hub, with what belongs to it: --repo org/name, --dry-run"),
    ("pipeline unpublish VERSION", "make its copies on the Hub private, or delete them"),
    ("pipeline pull org/name", "a repository of the Hub as a version"),
    ("pipeline.STAGE --config configs/X.yaml", "[section.key=value ...]"),
    ("pipeline.run STAGE ... --config configs/X.yaml", "consecutive stages in one go; none: all"),
    ("pipeline.sweep --config configs/X.yaml --seeds 5", "--grid ppo.kl_coef=0.02,0.1"),
    ("pipeline.loop --config configs/X.yaml --rounds 3", "each on its last policy's samples"),
    ("pipeline.readers --config configs/X.yaml", "an adapter for each reader, from their own likes"),
    ("pipeline.reward --evaluate MODEL ... --on SET", "measure reward models without training"),
    ("pipeline.report --runs A B", "compare runs on one page"),
)
_STAGES = """\
stages, in order:
  sft        a base model, from scratch or adapted with LoRA
  collect    comparisons of completions, and an annotator's choices
  label      the page on which people choose
  reward     a reward model on the preferences
  ppo        the policy: PPO with LoRA against the reward model
  evaluate   base against policy on held-out prompts
  report     report.html and its pictures

`make` runs all of them; `make help` lists the targets.
"""


_COMMANDS = {
    ("init",): "pipeline.project.init",
    ("new",): "pipeline.project.new",
    ("data", "forget"): "pipeline.erasure.erase_person",
    ("data", "look"): "pipeline.stages.data.look",
    ("data",): "pipeline.stages.data.data",
    ("keys",): "pipeline.stages.print_keys",
    ("doctor",): "pipeline.stages.doctor",
    ("merge",): "pipeline.stages.merge",
    ("export-verl",): "pipeline.stages.handoff.verl",
    ("chat",): "pipeline.chat.talk",
    ("try",): "pipeline.chat.try_page",
    ("explain",): "pipeline.stages.scrutiny.explain",
    ("screen",): "pipeline.stages.scrutiny.screen",
    ("fairness",): "pipeline.stages.scrutiny.fairness",
    ("approve",): "pipeline.governance.approve",
    ("audit",): "pipeline.governance.audit",
    ("publish",): "pipeline.stages.hub.publish",
    ("unpublish",): "pipeline.governance.unpublish",
    ("pull",): "pipeline.stages.hub.pull",
    **{
        (stage,): f"pipeline.{stage}"
        for stage in (
            "sft",
            "collect",
            "label",
            "reward",
            "ppo",
            "evaluate",
            "report",
            "run",
            "sweep",
            "loop",
            "readers",
        )
    },
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; anything else prints the help."""
    args = sys.argv[1:] if argv is None else argv
    for words, module in _COMMANDS.items():
        if tuple(args[: len(words)]) == words:
            return run_module(module, args[len(words) :])
    if args and args[0] not in ("-h", "--help", "help"):
        near = difflib.get_close_matches(args[0], [" ".join(words) for words in _COMMANDS], n=1)
        meant = f' Did you mean "{near[0]}"?' if near else ""
        all_of_them = f"All commands: {as_called('pipeline')} --help"
        put(f'error: command line: unknown command "{args[0]}".{meant} {all_of_them}', sys.stderr)
        return 2
    print(_help(), end="")
    return 0


def script() -> NoReturn:
    """The installed script: it finds the caller's own tasks and rewards where ``python -m`` finds them."""
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    run_cli(main)


def _help() -> str:
    lines = (f"{as_called(command):<36}  {text}" for command, text in _USAGE)
    return "usage: " + "\n       ".join(lines) + f"\n\n{_STAGES}"


if __name__ == "__main__":
    run_cli(main)
