"""``python -m pipeline``: the commands on data, keys and runs. The stages have modules of their own."""

from __future__ import annotations

import sys

from pipeline.base.cli import run_cli, run_module
from pipeline.base.terminal_text import put

_HELP = """\
usage: python -m pipeline data look FILE       how the rows of a file would be read, before anything is trained
       python -m pipeline data COMMAND         versions: list, show, diff, tag, verify, gc, export, forget
       python -m pipeline keys [SECTION]       what a config may say: keys, types, defaults, what each is for
       python -m pipeline doctor RUN           what is wrong with a PPO run, and what to change
       python -m pipeline merge ADAPTER        a policy or a reward model as one whole model, for other engines
       python -m pipeline approve VERSION      sign a version off; `audit show` and `audit verify` read the log
       python -m pipeline.STAGE --config configs/X.yaml [section.key=value ...]
       python -m pipeline.run STAGE ... --config configs/X.yaml    consecutive stages in one go; none: all
       python -m pipeline.sweep --config configs/X.yaml --seeds 5 --grid ppo.kl_coef=0.02,0.1
       python -m pipeline.reward --evaluate MODEL ... --on SET     measure reward models without training
       python -m pipeline.report --runs A B                        compare runs on one page

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
    ("data", "forget"): "pipeline.erasure.erase_person",
    ("data", "look"): "pipeline.stages.look",
    ("data",): "pipeline.stages.data.data",
    ("keys",): "pipeline.stages.print_keys",
    ("doctor",): "pipeline.stages.doctor",
    ("merge",): "pipeline.stages.merge",
    ("approve",): "pipeline.governance.approve",
    ("audit",): "pipeline.governance.audit",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; anything else prints the help."""
    args = sys.argv[1:] if argv is None else argv
    for words, module in _COMMANDS.items():
        if tuple(args[: len(words)]) == words:
            return run_module(module, args[len(words) :])
    if args and args[0] not in ("-h", "--help", "help"):
        put(f"error: unknown command {args[0]!r}.\n\n{_HELP.rstrip()}", sys.stderr)
        return 2
    print(_HELP, end="")
    return 0


if __name__ == "__main__":
    run_cli(main)
