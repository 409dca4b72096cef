"""The ``label`` section of a config: the questions, the stop rule and the page.

The keys in :data:`pipeline.workflow.work_key.LABEL_LEARNING` determine the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.items import Mode
from pipeline.labelling.log.postgres_url import PostgresUrl
from pipeline.labelling.public_url import PublicAddress

Ask = Literal["strength", "tags", "note", "edit"]

DEFAULT_TAGS = ("correct", "clear", "on topic", "style", "safe")
SKIP_REASONS = ("I cannot tell", "not my subject", "I cannot read it", "I would rather not")
PERSONAL_DATA = "personal data"
FLAG_REASONS = ("harmful", PERSONAL_DATA, "broken text", "other")


@dataclass(frozen=True)
class LabelSection:
    """Keys of the ``label`` section."""

    mode: Mode = field(
        default="pairwise",
        metadata={
            "help": "`pairwise`: which of two is better; `thumbs`: like or dislike one; `rating`: 1 to 5; "
            "`ranking`: order up to `rank_up_to`."
        },
    )
    votes: int = field(default=1, metadata={"help": "People who answer each item before it counts as done."})
    enough: int | None = field(
        default=None, metadata={"help": "Items done that are enough to publish; all of them by default."}
    )
    aggregate: Aggregation = field(
        default="majority",
        metadata={
            "help": "How several votes become one; `dawid_skene` weighs people by how they agree, `bradley_terry` "
            "finds a strength for each completion of a prompt."
        },
    )
    margin: Margin = field(
        default="none",
        metadata={"help": "TRL's `margin`: much = 2, slightly = 1 (`strength`), or the winner's lead (`share`)."},
    )
    rank_up_to: int = field(default=4, metadata={"help": "Most completions in one ranking."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "Your own pairs (`prompt`, `completion_a`, `completion_b`) in place of sampled ones."},
    )
    columns: dict[str, str | list[str]] = field(
        default_factory=dict[str, "str | list[str]"],
        metadata={"help": "The columns of `dataset` and `gold`: `{our name: their name}`."},
    )
    gold: str | None = field(
        default=None,
        metadata={
            "help": "A file of items with a known `choice`, mixed in to see how well people do; never trained on."
        },
    )

    database: str | None = field(
        default=None,
        metadata={
            "help": "A PostgreSQL database for the answers, so that servers on several hosts can share them: "
            "`postgresql://user@host/database`, the password in `PGPASSWORD`. By default a file, SQLite's."
        },
    )
    host: str = field(default="127.0.0.1", metadata={"help": "Any other address is reachable by others."})
    port: int = field(default=8765, metadata={"help": "0: any that is free."})
    public_url: str | None = field(
        default=None, metadata={"help": "Where a proxy serves the page, such as https://annotate.example.org."}
    )
    annotators: list[str] = field(
        default_factory=lambda: ["me"], metadata={"help": "A link for each; more on the operator's page."}
    )
    title: str | None = field(default=None, metadata={"help": "Of the page; the experiment's name by default."})
    guidelines: str | None = field(default=None, metadata={"help": "A text file, shown beside the items."})
    consent: str | None = field(
        default=None, metadata={"help": "A text file to agree to before the first vote; there is a short default."}
    )
    ask: list[Ask] = field(
        default_factory=list[Ask],
        metadata={"help": "Also ask for `strength`, `tags`, `note`, `edit` (a better answer)."},
    )
    tags: list[str] = field(default_factory=lambda: list(DEFAULT_TAGS), metadata={"help": "Reasons to pick from."})
    order: Literal["sampled", "random", "active"] = field(
        default="random", metadata={"help": "`active`: first what the reward model is least sure of."}
    )
    reward: str | list[str] | None = field(
        default=None, metadata={"help": "Reward adapters for `order: active`; by default NAME-reward@latest."}
    )
    gold_share: float = field(
        default=0.05, metadata={"help": "Share of known answers among the items shown, where `gold` has some."}
    )
    repeat_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of a person's items asked again later, to see whether they agree with themselves."
        },
    )
    repeat_after: int = field(default=20, metadata={"help": "Answers between an item and its repeat, at least."})
    too_fast_ms: int = field(default=1500, metadata={"help": "Faster answers are counted as too fast."})
    lease_minutes: float = field(default=15.0, metadata={"help": "How long an item is reserved for one person."})

    def __post_init__(self) -> None:
        for name in ("votes", "enough", "rank_up_to", "repeat_after", "lease_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value} should be above 0")
        for name in ("gold_share", "repeat_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least 0 and below 1")
        if self.rank_up_to < 2 or self.rank_up_to > 9:
            raise ValueError(f"rank_up_to = {self.rank_up_to} should be 2 to 9: one key for each")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port = {self.port} should be 0 to 65535")
        if self.database is not None:
            try:
                PostgresUrl.parse(self.database)
            except ValueError as err:
                raise ValueError(f"database {err}") from None
        if self.public_url is not None:
            PublicAddress.parse(self.public_url)
        if self.margin == "strength" and "strength" not in self.ask:
            raise ValueError("margin: strength needs  ask: [strength]")
        if self.aggregate == "bradley_terry" and self.mode in ("thumbs", "rating"):
            raise ValueError(f"bradley_terry compares completions; mode {self.mode} has one at a time")
        if len(set(self.annotators)) < len(self.annotators):
            raise ValueError("annotators: a name occurs twice")

    @property
    def public(self) -> PublicAddress | None:
        """:attr:`public_url`, parsed."""
        return None if self.public_url is None else PublicAddress.parse(self.public_url)


@dataclass(frozen=True)
class Ready:
    """The state of the stop rule."""

    done: int
    items: int
    needed: int

    @property
    def enough(self) -> bool:
        return self.done >= self.needed > 0

    def sentence(self) -> str:
        return f"{self.done} of {self.needed} items done"
