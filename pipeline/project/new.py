"""new: write a task of your own, with its test and a config that runs at once.

NAME becomes my/NAME.py, my/test_NAME.py and configs/NAME.yaml in the current directory: the repository, or a
project that init has made. Nothing is overwritten: where one of them is there already and differs, nothing is
written.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.files import disk_errors
from pipeline.base.process import say
from pipeline.project.init import make_command, missing_files, python_is_ours, write_missing

TEMPLATE = Path(__file__).with_name("new_task")
PLACES = {"new_task.py": "my/{}.py", "test_new_task.py": "my/test_{}.py", "new_task.yaml": "configs/{}.yaml"}
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def main(argv: list[str] | None = None) -> int:
    """Write the files of a task, unless they are there.

    Raises:
        ConfigError: the name is no module's, or something else is there under the name of one of the files.
        StoreError: the disk refused.
    """
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline new"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help="such as support_replies")
    name = checked(parser.parse_args(argv).name)
    files, here = task_files(name), Path()
    with disk_errors("."):
        missing = missing_files(here, files, "new")
        write_missing(here, files, missing)
    if not missing:
        say("new", f"nothing to do: {', '.join(files)} are there, as they were written")
        return 0
    say("new", f"wrote {', '.join(missing)}")
    for line in next_commands(name):
        say("new", line)
    return 0


def next_commands(name: str) -> list[str]:
    """How to test the task and to run its config, with the python that runs this."""
    config, python = f"configs/{name}.yaml", "python" if python_is_ours() else sys.executable
    run = f"{as_called('pipeline.run')} --config {config}"
    if Path("Makefile").exists():
        run = f"{make_command(Path())} CONFIG={config}"
    return [
        f"test it: {python} -m unittest my.test_{name}",
        f"run it:  {run}    (under a minute)",
        f"then change what is numbered 1 to 4 in my/{name}.py, and 5 in its test",
    ]


def checked(name: str) -> str:
    """The name, if a module and a run can have it.

    Raises:
        ConfigError: it cannot be one.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("test_"):
        what = "is not a name for a module: small letters, digits and _, a letter first, not test_..., 40 at most."
        raise ConfigError(f'new "{name}"', what, "Such as: support_replies")
    return name


def task_files(name: str) -> dict[str, bytes]:
    """The content of each file, by its name in the project."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    replaced = {"new_task": name, "new-task": name.replace("_", "-"), "NewTask": class_name}
    files: dict[str, bytes] = {}
    for template, place in PLACES.items():
        text = (TEMPLATE / template).read_text(encoding="utf-8")
        for old, new in replaced.items():
            text = text.replace(old, new)
        files[place.format(name)] = text.encode()
    return files
