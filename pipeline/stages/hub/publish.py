"""``python -m pipeline publish``: a policy and all that belongs to it, each as a repository of the Hub."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipeline.base.cli import as_called
from pipeline.base.errors import StoreError
from pipeline.base.process import say
from pipeline.base.terminal_text import in_size, put, put_table
from pipeline.governance.audit_log import AuditLog
from pipeline.governance.gate import Override, admit, asked_of
from pipeline.governance.published import note_published
from pipeline.sources.hub_repository import OWN, Files, Head, Repository, difference, is_same, size_of
from pipeline.stages.hub.artefacts import Artefact, Plan, check_repo
from pipeline.stages.hub.contents import base_of, contents
from pipeline.stages.hub.permit import missing, personal_data, write_who_answers
from pipeline.stages.hub.search import search
from pipeline.store.copies import record_copy
from pipeline.store.store import Store
from pipeline.texts.personal_data.count import in_words
from pipeline.workflow.config import load_governance


def main(argv: list[str] | None = None) -> int:
    """Publish, or with ``--dry-run`` print what would be published.

    Raises:
        PipelineError: there is nothing to publish, something that may not leave, a conflict, or no way to the Hub.
    """
    args = _parser().parse_intermixed_args(argv)
    store = Store(args.root)
    _check_no_erasure(store)
    version, override = store.resolve(args.ref), Override.given(args.override, args.by)
    asked = asked_of(store, version, asdict(load_governance(args.config, args.overrides)))
    plan = Plan(store, check_repo(args.repo), args.base, args.without_consent, "consent" not in asked)
    named = plan.add_all(version)
    for line in plan.left_out:
        say("publish", f"left out: {line}")
    plan.personal_data = personal_data(plan)
    for ref, counts in plan.personal_data.items():
        warning = "" if "personal_data" in asked or not counts else "warning: "
        say("publish", f"{warning}personal data in {ref}: {in_words(counts)}")
    lacking = list(dict.fromkeys(lack for artefact in named for lack in missing(plan, artefact, asked)))
    if args.dry_run:
        show(plan, public=args.public)
        for lack in lacking:
            put(f"missing: {lack.what} ({lack.mend})")
        return int(bool(lacking))
    write_who_answers(plan, admit(store, version, plan.repo, lacking, override))
    publish(plan, public=args.public)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline publish"),
        description="Publish a version and what belongs to it, each as a repository of its own: a policy with its "
        "reward model, as an adapter and merged, the base if it exists only here, preferences and prompts.",
        epilog="The token is HF_TOKEN, or that of `hf auth login`. The same command again does what is left.",
    )
    parser.add_argument(
        "ref", metavar="REF", help="a version, such as demo-policy@v1; NAME-readers: everybody's and each reader's"
    )
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="the others are ORG/NAME-reward ...")
    parser.add_argument("--dry-run", action="store_true", help="print what would go; nothing is sent or asked")
    parser.add_argument("--public", action="store_true", help="make new repositories public (default: private)")
    base = "where a base that is a directory of this machine is on the Hub"
    parser.add_argument("--base", metavar="ORG/NAME[@REVISION]", help=base)
    agreed = "also rows of people who agreed to nothing, for this reason"
    parser.add_argument("--without-consent", metavar="BASIS", help=agreed)
    parser.add_argument("--config", help="an experiment whose section governance is to be met too")
    parser.add_argument("--override", metavar="REASON", help="publish although something required is missing")
    parser.add_argument("--by", metavar="NAME", help="who overrides; stands in the audit log and on the cards")
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    asks = "asks for more, such as governance.sign_off=true; never for less than the versions record"
    parser.add_argument("overrides", nargs="*", metavar="governance.key=value", help=asks)
    return parser


@dataclass
class Part:
    """An artefact on its way: what goes, what is there, and the commit that holds it, once there is one."""

    artefact: Artefact
    files: Files
    remote: Repository
    head: Head | None
    commit: str | None
    tagged: bool


def publish(plan: Plan, public: bool) -> None:
    """Commit each repository that does not hold its files yet, compare what a fresh process reads, set the tags.

    Before anything is sent, all bytes are searched and all repositories are looked at.

    Raises:
        PipelineError: see :func:`main`; repositories without a tag are left, which the same command completes.
    """
    commits: dict[str, str] = {}
    parts = [look(plan, artefact, commits, public) for artefact in plan.artefacts]
    for part in parts:
        if part.commit is None:
            part.files = contents(plan.store, part.artefact, commits)
            part.commit = commits[part.artefact.repo] = send(part, public)
    new = [part for part in parts if not part.tagged]
    note_all(plan.store, [part for part in parts if part.tagged])
    if not new:
        say("publish", f"up to date: {', '.join(f'{p.remote.name}@{p.artefact.tag}' for p in parts)}")
        return
    from pipeline.stages.hub.gate import pass_gate  # torch

    seen = pass_gate([part.artefact for part in new], commits)
    say(
        "publish",
        f"read again by a fresh process: {seen.models} models, logits at most {seen.difference:.1e} apart; "
        f"{seen.tables} tables, rows equal",
    )
    note_all(plan.store, new)  # before: nothing has a tag that the log does not know of
    for part in new:
        set_tag(part)
        say("publish", f"{part.remote.name}@{part.artefact.tag}: published ({part.commit})")


def look(plan: Plan, artefact: Artefact, commits: dict[str, str], public: bool) -> Part:
    """Find out what is left to do for a repository. ``commits`` gets its commit if it holds these files.

    Raises:
        StoreError: something that may not leave; another holds the name, or has written to it.
    """
    files = contents(plan.store, artefact, commits)
    search(artefact.repo, files, plan.store.root)
    remote = Repository(artefact.repo, artefact.type)
    head = remote.head()
    part = Part(artefact, files, remote, head, None, False)
    if head is None:
        return part
    if not head.private and not public:
        mend = "Add --public, or name another repository."
        raise StoreError(remote.name, "is there and public, and would be private.", mend)
    if (tagged := head.tags.get(artefact.tag)) is not None:
        if other := difference(files, remote.tree(tagged)):
            fact = f'its tag {artefact.tag} holds something else ("{other[0]}" differs).'
            raise StoreError(remote.name, fact, "A tag never moves: name another repository.")
        part.commit, part.tagged = tagged, True
    elif is_same(files, remote.tree(head.commit)) and head.title.startswith(OWN):
        part.commit = head.commit
    else:
        _check_head(part, head)
    if part.commit is not None:
        commits[artefact.repo] = part.commit
    return part


def _check_head(part: Part, head: Head) -> None:
    """Raises StoreError unless the head is ours, or the empty one that the Hub makes."""
    mine = OWN + part.artefact.version.name + "@"
    if head.title.startswith(mine) or set(part.remote.tree(head.commit)) <= {".gitattributes"}:
        return
    holds = f'its head is "{head.title}" ({head.commit[:10]})'
    fact = f"{holds}, which is not of {part.artefact.version.name}. Nothing was sent."
    raise StoreError(part.remote.name, fact, "See what came, or name another repository.")


def send(part: Part, public: bool) -> str:
    """Create the repository if need be, and commit; returns the commit."""
    artefact, remote = part.artefact, part.remote
    record_copy(artefact.version, remote.name, artefact.tag)
    head = part.head
    if head is None:
        remote.create(private=not public)
        head = remote.head()
        if head is None:
            raise StoreError(remote.name, "was created, and is not to be seen.", "Check the token's rights.")
    commit = remote.commit(part.files, OWN + artefact.version.ref, head.commit)
    size = in_size(sum(map(size_of, part.files.values())))
    say("publish", f"{remote.name}: sent {len(part.files)} files, {size}")
    return commit


def note_all(store: Store, parts: Sequence[Part]) -> None:
    """Note in the audit log what is published where, each once."""
    log = AuditLog(store.root)
    for part in parts:
        assert part.commit is not None
        artefact, manifest = part.artefact, part.files["manifest.json"]
        assert isinstance(manifest, bytes)
        what = {
            "ref": artefact.version.ref,
            "id": artefact.version.id,
            "manifest": hashlib.sha256(manifest).hexdigest(),
        }
        where = {"repo": part.remote.name, "tag": artefact.tag, "commit": part.commit}
        note_published(log, {**what, **where})


def set_tag(part: Part) -> None:
    """Set the tag; one that is there meanwhile is right where it is this commit."""
    assert part.commit is not None
    try:
        part.remote.tag(part.artefact.tag, part.commit)
    except StoreError:
        now = part.remote.head()
        if now is None or now.tags.get(part.artefact.tag) != part.commit:
            raise


def show(plan: Plan, public: bool) -> None:
    """Print what would go: repositories, files, bytes, who may see it, and what refers to what."""
    total = 0
    for artefact in plan.artefacts:
        files = contents(plan.store, artefact, {})
        search(artefact.repo, files, plan.store.root)
        size = sum(map(size_of, files.values()))
        total += size
        put(
            f"{artefact.type} {artefact.repo}@{artefact.tag}  {'public' if public else 'private'}, {in_size(size)}"
        )
        put(f"  is {artefact.version.ref} ({artefact.version.id[:16]})")
        for line in _references(artefact):
            put(f"  {line}")
        put_table([(f"    {path}", f"{size_of(content):,}") for path, content in sorted(files.items())], right={1})
        put("")
    put(f"{len(plan.artefacts)} repositories, {in_size(total)}. Nothing was sent; leave --dry-run out to publish.")


def _references(artefact: Artefact) -> Sequence[str]:
    lines = [f"refers to {a.type} {a.repo}@{a.tag} ({role})" for role, a in artefact.refers.items()]
    base = base_of(artefact, {})
    if base is not None and "base" not in artefact.refers:
        lines.append(f"refers to model {base.repo}@{base.commit} (base, on the Hub already)")
    return lines


def _check_no_erasure(store: Store) -> None:
    """Raises StoreError while the erasure of a person is unfinished: versions may still hold their answers."""
    if any((store.root / ".forgetting").glob("[!.]*.json")):
        mend = "Run it again:  python -m pipeline data forget"
        raise StoreError(str(store.root), "the erasure of a person was interrupted. Nothing was sent.", mend)
