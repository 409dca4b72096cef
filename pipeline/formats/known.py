"""The table of formats that can be read: the reader of each, its columns, and its name in a message."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipeline.formats.families import (
    chat_comparisons,
    label_page,
    labelling_tools,
    oasst,
    open_webui,
    scored,
    trl_and_hh,
    two_answers,
    unpaired,
    vendors,
)
from pipeline.formats.judged import TIED_VOTES, JudgedRow, Row, Unusable
from pipeline.formats.reading import Reading

Format = Literal[
    "auto", "trl", "trl_implicit", "conversational", "hh", "unpaired", "arena", "arena_55k", "ultrafeedback",
    "shp", "helpsteer", "helpsteer_rated", "rewardbench", "safe_rlhf", "alpacafarm", "webgpt", "summaries",
    "nectar", "oasst", "oasst_flat", "responses_scores", "openai_preference", "swift", "sharegpt", "instructed",
    "ultrafeedback_pairs", "prodigy", "argilla", "label_studio", "choices", "label_page",
    "open_webui",
]  # fmt: skip

ReadRow = Callable[[Row, Reading], "list[Any]"]
ReadAlone = unpaired.Read
ReadAll = Callable[[Iterable[tuple[str, Row]], Reading], Iterator[tuple[str, JudgedRow | Unusable]]]

_UNDECIDED = (*TIED_VOTES, "votes_both_bad")
_TRL_ALSO = (
    *("tie", "both_bad", "margin", "annotator", *itertools.chain(*trl_and_hh.SCORES)),
    *("votes_chosen", "votes_rejected", *_UNDECIDED),
)


@dataclass(frozen=True)
class Layout:
    """A format.

    Args:
        title: what it is called in a message.
        needs: columns without which it is not that format. A row without ``chosen`` and ``rejected`` that has
            them all is of no other format.
        also: columns that are read where they are there.
        row: reads a row; None where rows cannot be read one by one.
        alone: reads a row that may hold a single completion, which becomes a pair among others.
        all: reads all rows at once.
        aliases: names that some versions of the set have, and the name in ``needs`` or ``also``.
        public: a set that is published with some rows nobody can use.
        record: rows are records of a tool, whose fields are read and not their columns.
    """

    title: str
    needs: tuple[str, ...]
    also: tuple[str, ...] = ()
    row: ReadRow | None = None
    alone: ReadAlone | None = None
    all: ReadAll | None = None
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


_public = functools.partial(Layout, public=True)

FORMATS: dict[Format, Layout] = {
    "trl": Layout("TRL's preferences", ("prompt", "chosen", "rejected"), _TRL_ALSO, trl_and_hh.trl),
    "trl_implicit": Layout(
        "TRL's preferences without a prompt", ("chosen", "rejected"), _TRL_ALSO, trl_and_hh.trl_implicit
    ),
    "conversational": Layout(
        "conversations", ("chosen", "rejected"), ("prompt", *_TRL_ALSO), trl_and_hh.conversational
    ),
    "hh": _public("HH-RLHF", ("chosen", "rejected"), _TRL_ALSO, trl_and_hh.hh),
    "label_page": Layout(
        "the labelling page's export",
        ("item", "mode", "prompt", "completions", "choice", "annotator"),
        ("gold", "round"),
        alone=label_page.answer,
    ),
    "arena": _public(
        "Chatbot Arena's conversations",
        ("conversation_a", "conversation_b", "winner"),
        ("judge", "judge_hash"),
        chat_comparisons.arena,
    ),
    "arena_55k": _public(
        "Chatbot Arena's 55k",
        ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        row=two_answers.arena_55k,
    ),
    "ultrafeedback": _public("UltraFeedback", ("instruction", "completions"), row=scored.ultrafeedback),
    "shp": _public(
        "SHP",
        ("history", "human_ref_A", "human_ref_B", "labels"),
        ("score_A", "score_B", "score_ratio"),
        chat_comparisons.shp,
    ),
    "helpsteer": _public(
        "HelpSteer's preferences",
        ("response1", "response2", "overall_preference"),
        ("context", "prompt"),
        chat_comparisons.helpsteer,
        aliases={
            "response_1": "response1",
            "response_2": "response2",
            "preference_strength": "overall_preference",
        },
    ),
    "helpsteer_rated": _public(
        "HelpSteer's ratings",
        ("prompt", "response", "helpfulness", "correctness", "coherence"),
        alone=scored.helpsteer_rated,
    ),
    "rewardbench": _public(
        "RewardBench", ("prompt", "chosen", "rejected"), ("subset",), chat_comparisons.rewardbench
    ),
    "safe_rlhf": _public(
        "PKU-SafeRLHF", ("prompt", "response_0", "response_1", "better_response_id"), row=two_answers.safe_rlhf
    ),
    "alpacafarm": _public(
        "AlpacaFarm's comparisons",
        ("instruction", "output_1", "output_2", "preference"),
        ("input",),
        two_answers.alpacafarm,
    ),
    "webgpt": _public(
        "WebGPT's comparisons", ("question", "answer_0", "answer_1", "score_0", "score_1"), row=two_answers.webgpt
    ),
    "summaries": _public(
        "summarize-from-feedback's comparisons",
        ("info", "summaries", "choice"),
        ("worker",),
        two_answers.summaries,
    ),
    "nectar": _public("Nectar", ("prompt", "answers", "turns"), row=scored.nectar),
    "oasst": _public("OpenAssistant's trees", ("message_tree_id", "prompt"), row=oasst.tree),
    "oasst_flat": _public(
        "OpenAssistant's messages",
        ("message_id", "parent_id", "text", "role"),
        ("rank", "deleted", "review_result"),
        all=oasst.flat,
    ),
    "responses_scores": Layout(
        "responses with scores",
        ("prompt", "responses", "scores"),
        row=scored.responses_scores,
        aliases={"completions": "responses", "answers": "responses", "ratings": "scores", "rewards": "scores"},
    ),
    "openai_preference": Layout(
        "OpenAI's preference fine-tuning",
        ("input", "preferred_output", "non_preferred_output"),
        _TRL_ALSO,
        vendors.openai_preference,
    ),
    "swift": Layout(
        "ms-swift's preferences",
        ("messages", "rejected_response"),
        ("images", "videos", "audios", "objects", "tools", *_TRL_ALSO),
        vendors.swift,
        aliases={"rejected_messages": "rejected_response"},
    ),
    "sharegpt": Layout(
        "ShareGPT's pairs", ("conversations", "chosen", "rejected"), _TRL_ALSO, trl_and_hh.sharegpt
    ),
    "instructed": Layout(
        "an instruction with chosen and rejected",
        ("chosen", "rejected"),
        ("question", "instruction", "input", "system", "history", *_TRL_ALSO),
        vendors.instructed,
    ),
    "ultrafeedback_pairs": _public(
        "Argilla's binarized UltraFeedback",
        ("instruction", "chosen", "rejected"),
        ("question", "input", "system", "history", *_TRL_ALSO),
        vendors.instructed,
        aliases={"chosen_response": "chosen", "rejected_response": "rejected"},
    ),
    "prodigy": Layout(
        "Prodigy's choices",
        ("options", "accept"),
        ("text", "prompt", "answer", "_annotator_id", "_session_id"),
        vendors.prodigy,
    ),
    "argilla": Layout("Argilla", ("fields", "responses"), row=labelling_tools.argilla_answers, record=True),
    "label_studio": Layout(
        "Label Studio", ("data", "annotations"), row=labelling_tools.label_studio_answers, record=True
    ),
    "open_webui": Layout(
        "Open WebUI's feedback",
        ("type", "data", "meta", "snapshot"),
        ("id", "user_id", "version", "created_at", "updated_at"),
        all=open_webui.read_all,
    ),
    "choices": Layout(
        "a table of choices",
        ("prompt", "completion_a", "completion_b", "choice"),
        ("margin", "annotator", "votes_a", "votes_b", *_UNDECIDED),
        labelling_tools.choices,
    ),
    "unpaired": Layout(
        "TRL's unpaired preferences",
        ("prompt", "completion", "label"),
        ("annotator",),
        alone=unpaired.trl_unpaired,
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
        if not layout.record and set(layout.needs) <= set(layout.named(row)):
            return name
    return None
