"""Where versions were published, by the audit log and the records beside them; and how that is taken back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from pipeline.base.errors import StoreError
from pipeline.governance.audit_log import AuditLog, Event, Facts
from pipeline.sources.hub_repository import Repository
from pipeline.store import refs
from pipeline.store.copies import recorded_copies
from pipeline.store.store import Store

DELETED = "repository deleted, with all its versions"


@dataclass(frozen=True)
class Publication:
    """A copy of a version on the Hub.

    Attributes:
        repo: with ``datasets/`` before a dataset's.
        commit, time: of the event in the audit log; empty where there is none, as nothing was tagged, or before
            there were such events.
        taken_back: what :func:`unpublish` did; the rows are still in the history of a private repository.
    """

    ref: str
    repo: str
    tag: str
    commit: str = ""
    time: str = ""
    taken_back: str = ""

    def __str__(self) -> str:
        noted = f" (commit {self.commit[:10]}, published {self.time})" if self.commit else ""
        return f"{self.repo} at {self.tag}{noted}{self.taken_back and f': {self.taken_back}'}"


def note_published(log: AuditLog, facts: Facts) -> None:
    """Note that a version is published, unless that is the last that the log says of this repository and tag."""
    last = _last_about(log.events(), str(facts["repo"]), str(facts["tag"]))
    if last is None or last.event != "published" or last.facts != facts:
        log.append("published", "", facts)


def publications(store: Store, of: Collection[str]) -> list[Publication]:
    """The copies of the versions ``of``, references, that this program made, deleted ones apart.

    A changed log tells nothing; the records beside the versions then have repository and tag.
    """
    try:
        events = AuditLog(store.root).events()
    except StoreError:
        events = list[Event]()
    copies: dict[tuple[str, str, str], Publication] = {}
    for ref in of:
        parsed = refs.parse_ref(ref)
        for copy in recorded_copies(store.home(parsed.name), parsed.number or 0):
            place = ref, str(copy.get("repo")), str(copy.get("revision"))
            copies[place] = Publication(*place)
    for event in events:
        place = str(event.facts.get("ref")), str(event.facts.get("repo")), str(event.facts.get("tag"))
        if event.event == "published" and place[0] in of:
            copies[place] = Publication(*place, str(event.facts["commit"]), event.time)
        elif event.event == "unpublished" and place in copies:
            if (done := str(event.facts["done"])) == DELETED:
                del copies[place]
            else:
                copies[place] = replace(copies[place], taken_back=done)
    return [copies[place] for place in sorted(copies)]


def unpublish(store: Store, copy: Publication, by: str, note: str, delete: bool = False) -> str:
    """Make the repository of a copy private and delete the tag, or delete the repository; returns what was done.

    The same call again ends the same. A tag that is another commit by now stays.

    Raises:
        StoreError: the Hub refuses or does not answer; the audit log was changed.
    """
    log = AuditLog(store.root)
    log.events()
    dataset = copy.repo.startswith("datasets/")
    remote = Repository(copy.repo.removeprefix("datasets/"), "dataset" if dataset else "model")
    head = remote.head()
    if head is None:
        done = "no such repository: it was deleted, or this token may not see it"
    elif delete:
        remote.delete()
        done = DELETED
    else:
        if not head.private:
            remote.make_private()
        commit = head.tags.get(copy.tag)
        moved = commit is not None and copy.commit not in ("", commit)
        if commit is not None and not moved:
            remote.delete_tag(copy.tag)
        done = f"private, {'its tag is of another commit and stays' if moved else f'tag {copy.tag} deleted'}"
    facts: Facts = {"ref": copy.ref, "repo": copy.repo, "tag": copy.tag, "done": done, "note": note}
    last = _last_about(log.events(), copy.repo, copy.tag)
    if last is None or (last.event, last.facts) != ("unpublished", facts):
        log.append("unpublished", by, facts)
    return done


def _last_about(events: list[Event], repo: str, tag: str) -> Event | None:
    about = [e for e in events if e.event in ("published", "unpublished")]
    return next((e for e in reversed(about) if (e.facts.get("repo"), e.facts.get("tag")) == (repo, tag)), None)
