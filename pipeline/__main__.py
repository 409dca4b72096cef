"""``python -m pipeline``: the commands on data, keys and runs. The stages have modules of their own."""

from __future__ import annotations

import sys

from pipeline.base.cli import run_cli
from pipeline.base.terminal_text import put

_HELP = """\
usage: python -m pipeline data look FILE       how the rows of a file would be read, before anything is trained
       python -m pipeline data COMMAND         versions: list, show, diff, tag, verify, gc, export, forget
       python -m pipeline keys [SECTION]       what a config may say: keys, types, defaults, what each is for
       python -m pipeline doctor RUN           what is wrong with a PPO run, and what to change
       python -m pipeline.STAGE --config configs/X.yaml [section.key=value ...]
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


def main(argv: list[str] | None = None) -> int:
    """Run a command; anything else prints the help."""
    args = sys.argv[1:] if argv is None else argv
    if args[:2] == ["data", "forget"]:
        from pipeline.erasure import erase_person

        return erase_person.main(args[2:])
    if args[:2] == ["data", "look"]:
        from pipeline.stages import look

        return look.main(args[2:])
    if args[:1] == ["data"]:
        from pipeline.stages.data import data

        return data.main(args[1:])
    if args[:1] == ["keys"]:
        from pipeline.stages import print_keys

        return print_keys.main(args[1:])
    if args[:1] == ["doctor"]:
        from pipeline.stages import doctor

        return doctor.main(args[1:])
    if args and args[0] not in ("-h", "--help", "help"):
        put(f"error: unknown command {args[0]!r}.\n\n{_HELP.rstrip()}", sys.stderr)
        return 2
    print(_HELP, end="")
    return 0


if __name__ == "__main__":
    run_cli(main)
