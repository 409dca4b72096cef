"""The formats that can be read: the reader of each, its columns, and what it is called in a message.

Turning rows into comparisons is left to the readers, saying what an unknown file looks like to ``likeness``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipeline.formats.families import (
    label_page,
    labelling_tools,
    oasst,
    preference,
    public_sets,
    scored,
    two_answers,
    unpaired,
    vendors,
)
from pipeline.formats.judged import TIED_VOTES, JudgedRow, Row, Unusable
from pipeline.formats.reading import Reading

Format = Literal[
    "auto",
    "trl",
    "trl_implicit",
    "conversational",
    "hh",
    "unpaired",
    "arena",
    "arena_55k",
    "ultrafeedback",
    "shp",
    "helpsteer",
    "helpsteer_rated",
    "rewardbench",
    "safe_rlhf",
    "alpacafarm",
    "webgpt",
    "summaries",
    "nectar",
    "oasst",
    "oasst_flat",
    "responses_scores",
    "openai_preference",
    "swift",
    "sharegpt",
    "instructed",
    "ultrafeedback_pairs",
    "prodigy",
    "argilla",
    "label_studio",
    "choices",
    "label_page",
]

ReadRow = Callable[[Row, Reading], "list[Any]"]
ReadAlone = unpaired.Read
ReadAll = Callable[[Iterable[tuple[str, Row]], Reading], Iterator[tuple[str, JudgedRow | Unusable]]]

_RATED = tuple(name for names in preference.SCORES for name in names)
_UNDECIDED = (*TIED_VOTES, "votes_both_bad")
_TRL_ALSO = (
    *("tie", "both_bad", "margin", "annotator", *_RATED),
    *("votes_chosen", "votes_rejected", *_UNDECIDED),
)


@dataclass(frozen=True)
class Layout:
    """A format.

    Args:
        title: what it is called in a message.
        needs: columns without which it is not that format.
        also: columns that are read where they are there.
        row: reads a row; None where rows cannot be read one by one.
        alone: reads a row that may hold a single completion, which becomes a pair among others.
        all: reads all rows at once.
        telling: whether ``needs``, all together and without ``chosen`` and ``rejected``, mean no other format.
        aliases: names that some versions of the set have, and the name in ``needs`` or ``also``.
        public: a set that is published with some rows nobody can use.
        record: rows are records of a tool, whose fields are read and not their columns.
    """

    title: str
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    row: ReadRow | None = None
    alone: ReadAlone | None = None
    all: ReadAll | None = None
    telling: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    public: bool = False
    record: bool = False

    def named(self, row: Row) -> Row:
        """A row under the format's names. An alias counts where it stands alone for its name."""
        if not self.aliases:
            return row
        theirs = [name for name in self.aliases if name in row]
        ours = [self.aliases[name] for name in theirs]
        alone = {
            name: own for name, own in zip(theirs, ours, strict=True) if own not in row and ours.count(own) == 1
        }
        return {alone.get(name, name): value for name, value in row.items()}

    def used(self) -> Collection[str]:
        """Every column that is read."""
        return {*self.needs, *self.also}


_STEER = {"response_1": "response1", "response_2": "response2", "preference_strength": "overall_preference"}


def _argilla(row: Row, how: Reading) -> list[Any]:
    return labelling_tools.answers(row, "argilla", how)


def _label_studio(row: Row, how: Reading) -> list[Any]:
    return labelling_tools.answers(row, "label_studio", how)


FORMATS: dict[Format, Layout] = {
    "trl": Layout("TRL's preferences", ("prompt", "chosen", "rejected"), _TRL_ALSO, row=preference.trl),
    "trl_implicit": Layout(
        "TRL's preferences without a prompt",
        ("chosen", "rejected"),
        _TRL_ALSO,
        row=preference.trl_implicit,
    ),
    "conversational": Layout(
        "conversations",
        ("chosen", "rejected"),
        ("prompt", *_TRL_ALSO),
        row=preference.conversational,
    ),
    "hh": Layout("HH-RLHF", ("chosen", "rejected"), _TRL_ALSO, row=preference.hh, public=True),
    "label_page": Layout(
        "the labelling page's export",
        ("item", "mode", "prompt", "completions", "choice", "annotator"),
        ("gold", "round"),
        alone=label_page.answer,
        telling=True,
    ),
    "arena": Layout(
        "Chatbot Arena's conversations",
        ("conversation_a", "conversation_b", "winner"),
        ("judge", "judge_hash"),
        row=public_sets.arena,
        telling=True,
        public=True,
    ),
    "arena_55k": Layout(
        "Chatbot Arena's 55k",
        (
            *("prompt", "response_a", "response_b"),
            *("winner_model_a", "winner_model_b", "winner_tie"),
        ),
        row=two_answers.arena_55k,
        telling=True,
        public=True,
    ),
    "ultrafeedback": Layout(
        "UltraFeedback", ("instruction", "completions"), row=public_sets.ultrafeedback, telling=True, public=True
    ),
    "shp": Layout(
        "SHP",
        ("history", "human_ref_A", "human_ref_B", "labels"),
        ("score_A", "score_B", "score_ratio"),
        row=public_sets.shp,
        telling=True,
        public=True,
    ),
    "helpsteer": Layout(
        "HelpSteer's preferences",
        ("response1", "response2", "overall_preference"),
        ("context", "prompt"),
        row=public_sets.helpsteer,
        telling=True,
        aliases=_STEER,
        public=True,
    ),
    "helpsteer_rated": Layout(
        "HelpSteer's ratings",
        ("prompt", "response", "helpfulness", "correctness", "coherence"),
        alone=scored.helpsteer_rated,
        telling=True,
        public=True,
    ),
    "rewardbench": Layout(
        "RewardBench", ("prompt", "chosen", "rejected"), ("subset",), row=public_sets.rewardbench, public=True
    ),
    "safe_rlhf": Layout(
        "PKU-SafeRLHF",
        ("prompt", "response_0", "response_1", "better_response_id"),
        row=two_answers.safe_rlhf,
        telling=True,
        public=True,
    ),
    "alpacafarm": Layout(
        "AlpacaFarm's comparisons",
        ("instruction", "output_1", "output_2", "preference"),
        ("input",),
        row=two_answers.alpacafarm,
        telling=True,
        public=True,
    ),
    "webgpt": Layout(
        "WebGPT's comparisons",
        ("question", "answer_0", "answer_1", "score_0", "score_1"),
        row=two_answers.webgpt,
        telling=True,
        public=True,
    ),
    "summaries": Layout(
        "summarize-from-feedback's comparisons",
        ("info", "summaries", "choice"),
        ("worker",),
        row=two_answers.summaries,
        telling=True,
        public=True,
    ),
    "nectar": Layout("Nectar", ("prompt", "answers", "turns"), row=scored.nectar, telling=True, public=True),
    "oasst": Layout(
        "OpenAssistant's trees", ("message_tree_id", "prompt"), row=oasst.tree, telling=True, public=True
    ),
    "oasst_flat": Layout(
        "OpenAssistant's messages",
        ("message_id", "parent_id", "text", "role"),
        ("rank", "deleted", "review_result"),
        all=oasst.flat,
        telling=True,
        public=True,
    ),
    "responses_scores": Layout(
        "responses with scores",
        ("prompt", "responses", "scores"),
        row=scored.responses_scores,
        telling=True,
        aliases={"completions": "responses", "answers": "responses", "ratings": "scores", "rewards": "scores"},
    ),
    "openai_preference": Layout(
        "OpenAI's preference fine-tuning",
        ("input", "preferred_output", "non_preferred_output"),
        _TRL_ALSO,
        row=vendors.openai_preference,
        telling=True,
    ),
    "swift": Layout(
        "ms-swift's preferences",
        ("messages", "rejected_response"),
        ("images", "videos", "audios", "objects", "tools", *_TRL_ALSO),
        row=vendors.swift,
        telling=True,
        aliases={"rejected_messages": "rejected_response"},
    ),
    "sharegpt": Layout(
        "ShareGPT's pairs",
        ("conversations", "chosen", "rejected"),
        _TRL_ALSO,
        row=preference.sharegpt,
    ),
    "instructed": Layout(
        "an instruction with chosen and rejected",
        ("chosen", "rejected"),
        ("question", "instruction", "input", "system", "history", *_TRL_ALSO),
        row=vendors.instructed,
    ),
    "ultrafeedback_pairs": Layout(
        "Argilla's binarized UltraFeedback",
        ("instruction", "chosen", "rejected"),
        ("question", "input", "system", "history", *_TRL_ALSO),
        row=vendors.instructed,
        telling=True,
        aliases={"chosen_response": "chosen", "rejected_response": "rejected"},
        public=True,
    ),
    "prodigy": Layout(
        "Prodigy's choices",
        ("options", "accept"),
        ("text", "prompt", "answer", "_annotator_id", "_session_id"),
        row=vendors.prodigy,
        telling=True,
    ),
    "argilla": Layout("Argilla", ("fields", "responses"), row=_argilla, record=True),
    "label_studio": Layout("Label Studio", ("data", "annotations"), row=_label_studio, record=True),
    "choices": Layout(
        "a table of choices",
        ("prompt", "completion_a", "completion_b", "choice"),
        ("margin", "annotator", "votes_a", "votes_b", *_UNDECIDED),
        row=labelling_tools.choices,
        telling=True,
    ),
    "unpaired": Layout(
        "TRL's unpaired preferences",
        ("prompt", "completion", "label"),
        ("annotator",),
        alone=unpaired.trl_unpaired,
        telling=True,
    ),
}
"""By name, the most telling first where one holds another's columns."""

assert {"auto", *FORMATS} == set(get_args(Format))

ALONE: frozenset[Format] = frozenset(name for name, layout in FORMATS.items() if layout.row is None)
"""Formats of which a pair is made of several rows."""

PUBLIC_SETS: frozenset[Format] = frozenset(name for name, layout in FORMATS.items() if layout.public)
"""Formats of sets that are published with some rows nobody can use."""


def telling(row: Row) -> Format | None:
    """The format that the columns of a row without ``chosen`` and ``rejected`` mean and no other."""
    for name, layout in FORMATS.items():
        if layout.telling and set(layout.needs) <= set(layout.named(row)):
            return name
    return None
