"""The body of ``try``: load the models, serve the page until Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pipeline.base.errors import ConfigError
from pipeline.base.process import say
from pipeline.chat import options, project, votes
from pipeline.chat.asking import Talk
from pipeline.chat.engine import Engine
from pipeline.chat.try_page import page_settings, parser
from pipeline.chat.web.server import TryServer
from pipeline.labelling.log.log import Log


def main(argv: list[str]) -> int:
    """Serve until Ctrl-C.

    Raises:
        PipelineError: see :func:`pipeline.chat.try_page.main`.
    """
    args = parser().parse_args(argv)
    settings = page_settings(args)
    store, served, of_answers = options.served_of(args)
    with contextlib.closing(project.open_log(store, served.project)) as log:
        for name in settings.annotators:
            log.people.add(name)
        withdraw(log, args.withdraw)
        say("try", f"loading {served.policy.ref} and {served.base_answerer.ref}")
        engine = Engine.load(store, served, of_answers)
        talk = Talk(engine, served, args.blind)
        with contextlib.closing(engine), TryServer(log, settings, talk) as server:
            for name, url in server.links():
                say("try", f"{name}: {url}")
            say("try", "the page is open; Ctrl-C closes it and keeps every vote")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait(lambda: False)
        if lines := votes.standing(log).lines():
            for line in [*lines, f"make a dataset of the votes: {options.publishing('try', args, served)}"]:
                say("try", line)
    return 0


def withdraw(log: Log, names: Sequence[str]) -> None:
    """Make people's links invalid; their votes stay. Raises ConfigError for an unknown name."""
    ids = {person.name: person.id for person in log.people.all()}
    for name in names:
        if name not in ids:
            known = ", ".join(ids) or "nobody"
            raise ConfigError(options.WHERE, f"--withdraw {name}: nobody is called that.", f"There is: {known}.")
        log.people.withdraw(ids[name])
