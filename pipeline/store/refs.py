"""Names of versions in one ``data/<name>/``: numbers, heads, tags and tombstones; the spelling of references."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_error, disk_errors, fsync, locked, prepare_json, read_json, replace_json

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"v?(\d{1,9})")
_DIRECTORY = re.compile(r"v(\d{6,9})")


NAMED = 12
"""Names that a message lists; a data directory may hold hundreds."""


def there_is(names: Sequence[str], wanted: str) -> str:
    """What there is in place of ``wanted``, for a message: every name, or the most similar ones and the number."""
    wanted = wanted.partition("@")[0]
    near = [*(n for n in names if n.startswith(wanted)), *difflib.get_close_matches(wanted, names, n=NAMED)]
    shown = list(dict.fromkeys([*near, *names]))[:NAMED] if len(names) > NAMED else names
    more = f", and {len(names) - NAMED} more (data list)" if len(names) > NAMED else ""
    return f"There is: {', '.join(shown) or 'nothing yet'}{more}."


@dataclass(frozen=True)
class Ref:
    """``name@v3`` (number), ``name@gold`` (tag), ``name`` or ``name@latest`` (neither)."""

    name: str
    number: int | None = None
    tag: str | None = None


def parse_ref(text: str) -> Ref:
    """Read a reference by name.

    Raises:
        StoreError: the text is not one.
    """
    name, at, which = text.partition("@")
    if not _NAME.fullmatch(name) or (at and not _NAME.fullmatch(which)):
        mend = "Write name, name@latest, name@v3, name@tag or a path."
        raise StoreError(repr(text), "is not a reference.", mend)
    if which in ("", "latest"):
        return Ref(name)
    if number := _NUMBER.fullmatch(which):
        return Ref(name, number=int(number[1]))
    return Ref(name, tag=which)


def check_name(name: str) -> None:
    """Raises StoreError if ``name`` cannot be a directory under data/ and a reference."""
    if not _NAME.fullmatch(name):
        raise StoreError(repr(name), "cannot name a dataset or model.", "Use letters, digits, . _ and -.")


def spell(number: int) -> str:
    """``v000003``: the directory of a version, which sorts as its number does."""
    return f"v{number:06d}"


def version_path(home: Path, number: int) -> Path:
    return home / "versions" / spell(number)


def tombstone_path(home: Path, number: int) -> Path:
    return home / "tombstones" / f"{spell(number)}.json"


def numbers(home: Path) -> list[int]:
    """The numbers of the versions that exist, oldest first."""
    return _numbers_in(home / "versions", "")


def tombstones(home: Path) -> list[int]:
    """The numbers of the versions that were collected."""
    return _numbers_in(home / "tombstones", ".json")


def next_number(home: Path) -> int:
    """One above every number ever used here, also by a version that was removed by hand but is still named."""
    named = [v["version"] for v in (_read_ref(p) for p in _ref_files(home)) if v is not None]
    return 1 + max([*numbers(home), *tombstones(home), *named], default=0)


def _numbers_in(directory: Path, suffix: str) -> list[int]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise disk_error(err, str(directory)) from err
    numbers = (_DIRECTORY.fullmatch(n.removesuffix(suffix)) for n in names if n.endswith(suffix))
    return sorted(int(m[1]) for m in numbers if m)


def _ref_files(home: Path) -> list[Path]:
    # Temporary names begin with a dot, which glob's * would match here.
    return [p for p in sorted((home / "refs").glob("*/*.json")) if not p.name.startswith(".")]


def _read_ref(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except (FileNotFoundError, StoreError):
        return None
    return value if isinstance(value.get("version"), int) else None


def head_path(home: Path) -> Path:
    return home / "refs" / "heads" / "main.json"


def read_head(home: Path) -> int | None:
    """The number that "latest" means; None where nothing was published.

    Raises:
        StoreError: the file of the head is damaged.
    """
    return _read_number(head_path(home), "Remove this file; the newest version then becomes the head.")


def head_value(number: int, id: str) -> dict[str, int | str]:
    return {"version": number, "id": id, "moved_at": now()}


def move_head(home: Path, number: int, id: str) -> None:
    """Point the head at a version, in one step."""
    replace_json(head_path(home), head_value(number, id))


def read_tags(home: Path) -> dict[str, int]:
    """Every tag and the number it names."""
    tags: dict[str, int] = {}
    for path in _ref_files(home):
        value = _read_ref(path) if path.parent.name == "tags" else None
        if value is not None:
            tags[path.stem] = value["version"]
    return tags


def write_tag(home: Path, tag: str, number: int, id: str) -> None:
    """Create a tag. Doing so again for the same version changes nothing.

    Raises:
        StoreError: the word cannot be a tag, or it already names another version: tags never move.
    """
    if (
        not _NAME.fullmatch(tag)
        or tag.startswith("-")
        or len(tag) > 100
        or _NUMBER.fullmatch(tag)
        or tag in ("latest", "main")
    ):
        raise StoreError(repr(tag), "cannot be a tag.", "Use letters, digits, . _ and -; not latest, main or v3.")
    path = home / "refs" / "tags" / f"{tag}.json"
    with disk_errors(str(home)), locked(home / ".lock"):
        temporary = prepare_json(path, {"version": number, "id": id, "created_at": now()})
        try:
            # Unlike replace, link fails where the name exists: even without the lock no tag could move.
            os.link(temporary, path)
            fsync(path.parent)
        except FileExistsError:
            there = _read_number(path, "Remove this file and tag again.")
            if there != number:
                what = f"already names v{there:06d}, and a tag never moves."
                raise StoreError(f"{home.name}@{tag}", what, "Choose another tag.") from None
        finally:
            temporary.unlink()


def _read_number(path: Path, mend: str) -> int | None:
    try:
        number = read_json(path).get("version")
    except FileNotFoundError:
        return None
    except StoreError as err:
        raise StoreError(err.where, err.what, mend) from err
    if not isinstance(number, int):
        raise StoreError(str(path), "is damaged: no version in it.", mend)
    return number


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
