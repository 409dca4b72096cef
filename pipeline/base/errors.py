"""Errors that a user can fix; any other exception is a bug and keeps its traceback.

    PipelineError            one line on stderr, exit status 2
    ├── ConfigError          a config file or a command-line override
    ├── DataError            rows: a file, a dataset, a column, a split
    ├── StoreError           versions: a reference, a manifest, a corrupt or full data directory
    ├── ModelError           a base model, an adapter, a tokenizer
    └── LostRankError        another process of the run is gone: exit status 75, run the same command again

A message names the boundary, the fact and the mend, in that order:
``data/reviews-preferences@v000003: 412 rows but no "rejected" column. Run: make collect``.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every error that the command line prints in one line.

    Args:
        where: the boundary: a path, a key, a reference.
        what: the fact, a sentence or two.
        mend: what to do about it.

    Attributes:
        status: with which the command exits.
    """

    status = 2

    def __init__(self, where: str, what: str, mend: str = "") -> None:
        self.where, self.what, self.mend = where, what, mend
        super().__init__(" ".join(f"{where}: {what} {mend}".split()))


class ConfigError(PipelineError):
    """A config file or an override is wrong."""


class DataError(PipelineError):
    """Rows are wrong: a file, a dataset, a column, a split."""


class StoreError(PipelineError):
    """A version is missing or corrupt, or the data directory cannot be written."""


class ModelError(PipelineError):
    """A model, adapter or tokenizer does not fit."""


class LostRankError(PipelineError):
    """Another process of the run is gone. Nothing is wrong with the input: the same command continues."""

    status = 75  # EX_TEMPFAIL of sysexits.h


def first_line(err: BaseException) -> str:
    """The first line of an error's text, or its type, cut at 200 characters; no full stop at the end."""
    return (str(err).strip() or type(err).__name__).splitlines()[0][:200].rstrip(".")
