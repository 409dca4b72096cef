"""Versions of datasets and models under one directory: find them, resolve references, make new ones.

:mod:`pipeline.store.version` reads rows, :mod:`pipeline.store.draft` writes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_error, expand_home, locked, read_json
from pipeline.store import refs
from pipeline.store.diff import Diff, diff
from pipeline.store.draft import Draft, new_manifest
from pipeline.store.gc import Collected, Rules, collect_garbage
from pipeline.store.lineage import Node, lineage
from pipeline.store.manifest import ERASED
from pipeline.store.publish import newest_first, newest_with_key, repair_head
from pipeline.store.version import Version

__all__ = ["Draft", "Store", "Version"]


class Store:
    """The versions under ``root``. Creating one touches nothing on the disk."""

    def __init__(self, root: str | Path) -> None:
        # A shell leaves the ~ of --root=~/x as it is, and a directory called ~ would be made.
        self.root = Path(expand_home(str(root), str(root)))

    def home(self, name: str) -> Path:
        """The directory of a name. Raises StoreError if it cannot be one."""
        refs.check_name(name)
        return self.root / name

    def names(self) -> list[str]:
        """Every name that has a version.

        Raises:
            StoreError: the root cannot be read.
        """
        try:
            found = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []
        except OSError as err:
            raise disk_error(err, str(self.root)) from err
        return [name for name in found if (self.root / name).is_dir() and refs.numbers(self.root / name)]

    def versions(self, name: str) -> list[Version]:
        """The versions of ``name``, oldest first. Damaged ones are left out, with a warning on stderr."""
        return list(newest_first(self.home(name)))[::-1]

    def resolve(self, ref: str) -> Version:
        """The version that ``ref`` names now.

        Args:
            ref: ``name`` or ``name@latest``, ``name@v3``, ``name@tag``, or a path to a version's directory.
        Raises:
            StoreError: there is none, with what there is; or its manifest is damaged or too new.
        """
        if os.sep in ref or ref.startswith((".", "~")):
            return Version.open(Path(ref).expanduser())
        parsed = refs.parse_ref(ref)
        home = self.root / parsed.name
        number = self._number(parsed, home)
        if number is not None and refs.version_path(home, number).is_dir():
            return Version.open(refs.version_path(home, number))
        there = refs.numbers(home)
        if not there and not refs.tombstones(home):
            mend = refs.there_is(self.names(), parsed.name)
            raise StoreError(str(self.root), f'there is no "{parsed.name}".', mend)
        raise _missing(home, parsed, number, there)

    def find_version(self, text: str) -> Version | None:
        """The version that a setting names, or None where it is a directory, a Hub id or ``module:function``.

        Raises:
            StoreError: it is the reference of a version, and that is not there.
        """
        named = ":" not in text and ("@" in text or text in self.names())
        return self.resolve(text) if named and not Path(text).is_dir() else None

    def _number(self, parsed: refs.Ref, home: Path) -> int | None:
        if parsed.number is not None:
            return parsed.number
        if parsed.tag is not None:
            return refs.read_tags(home).get(parsed.tag)
        return refs.read_head(home) or max(refs.numbers(home), default=None)

    def find(self, name: str, key: str) -> Version | None:
        """The newest intact version of ``name`` made with ``key``: the work is done already.

        Every file's sha256 is compared; a damaged version is reported on stderr and not found.
        """
        home = self.home(name)
        found = newest_with_key(home, key)
        if found is not None and (refs.read_head(home) or 0) < found.number:
            # A store that cannot be written can still be read.
            with contextlib.suppress(OSError), locked(home / ".lock"):
                repair_head(home, found)
        return found

    def draft(
        self,
        name: str,
        *,
        kind: str,
        stage: str,
        key: str | None = None,
        parents: Sequence[tuple[Version, str]] = (),
        config: Mapping[str, Any] | None = None,
        seed: int | None = 0,
        governance: Mapping[str, Any] | None = None,
        expect_head: Version | int | None = None,
        republish_if_changed: bool = False,
    ) -> Draft:
        """A new version of ``name`` in the making; published when its ``with`` block ends well, else discarded.

        Args:
            kind: prompts, comparisons, preferences, rollouts, scores, adapter, model, evaluation, report,
                screening or fairness.
            key: equal key, same work: publishing then gives the version that has it. None always publishes.
            parents: the versions read, each with its role.
            republish_if_changed: the work goes on under one key, as people's labelling does: publish unless the
                version that has the key holds the very same files.
            expect_head: the head that the caller builds on (0: none yet); publishing fails if it has moved.
        Raises:
            StoreError: the name cannot be one. On entering and leaving the block: the disk, or the head has moved.
        """
        manifest = new_manifest(name, kind, stage, key, parents, config, seed, governance)
        return Draft(self.home(name), manifest, expect_head, republish_if_changed)

    def tag(self, ref: str, tag: str) -> Version:
        """Name a version for good; see :func:`refs.write_tag`."""
        version = self.resolve(ref)
        home = self.home(version.name)
        if version.path.resolve() != refs.version_path(home, version.number).resolve():
            raise StoreError(version.where, f"is not in {self.root}, where tags are kept.")
        refs.write_tag(home, tag, version.number, version.id)
        return version

    def tags(self, name: str) -> dict[str, int]:
        """The tags of ``name`` and the number each names."""
        return refs.read_tags(self.home(name))

    def head(self, name: str) -> int | None:
        """The number that ``name@latest`` means."""
        home = self.home(name)
        return refs.read_head(home) or max(refs.numbers(home), default=None)

    def lineage(self, version: Version) -> Node:
        """The tree of the ancestors of ``version``, collected versions included."""
        return lineage(self.root, version)

    def ancestors(self, version: Version) -> list[Node]:
        """Everything ``version`` was made from, each once, nearest first."""
        return self.lineage(version).ancestors()

    def diff(self, a: Version, b: Version) -> Diff:
        """The changes from ``a`` to ``b``."""
        return diff(a, b)

    def gc(
        self,
        dry_run: bool = False,
        keep: Iterable[str] = (),
        drop: Iterable[str] = (),
        unfinished: bool = False,
        runs: bool = False,
    ) -> Collected:
        """Collect the versions that nothing needs; see :func:`pipeline.store.gc.plan_collection`.

        Args:
            keep, drop: references, see :class:`pipeline.store.gc.Rules`, as for the others.
        """
        return collect_garbage(self.root, self.names(), self.rules(keep, drop, unfinished, runs), dry_run)

    def rules(self, keep: Iterable[str], drop: Iterable[str], unfinished: bool, runs: bool) -> Rules:
        """The rules of :meth:`gc`, their references resolved."""
        kept, dropped = ([(v.name, v.number) for v in map(self.resolve, refs_)] for refs_ in (keep, drop))
        return Rules(kept, dropped, unfinished, runs)


def _missing(home: Path, parsed: refs.Ref, number: int | None, there: list[int]) -> StoreError:
    tags = refs.read_tags(home)
    versions = ", ".join(refs.spell(n) for n in there[-8:]) or "no version"
    listed = f"There is: {'... ' if len(there) > 8 else ''}{versions}" + (
        f"; tags {', '.join(tags)}" if tags else ""
    )
    if number is None:
        return StoreError(f"{home}@{parsed.tag}", "no such tag.", f"{listed}.")
    where = f"{home}@{refs.spell(number)}"
    if number in refs.tombstones(home):
        if (heir := _heir(home, number)) is not None:
            mend = f"Name {home.name}@{refs.spell(heir)}, which has taken its place."
            return StoreError(where, "was erased; only its tombstone is left.", mend)
        return StoreError(where, "was collected; only its tombstone is left.", f"{listed}.")
    return StoreError(where, "no such version.", f"{listed}.")


def _heir(home: Path, number: int) -> int | None:
    """The version that has taken the place of an erased one, also where that one was erased later."""
    there = refs.numbers(home)
    while number not in there:
        try:
            tombstone = read_json(refs.tombstone_path(home, number))
        except (FileNotFoundError, StoreError):
            return None
        heir = tombstone.get("governance", {}).get(ERASED, {}).get("heir")
        after = refs.parse_ref(heir).number if heir else None
        if after is None or after <= number:
            return None
        number = after
    return number
