"""collect: prompts; comparisons of two completions each, and an annotator's choices between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.annotators import Context, Source, load_annotator
from pipeline.core.cli import guard
from pipeline.core.errors import DataError
from pipeline.core.graph import collects_preferences, reward_sources
from pipeline.core.records import (
    COMPARISONS,
    PREFERENCES,
    PROMPTS,
    VOTES,
    Abstention,
    Annotation,
    Comparison,
    digest,
    preference_from,
    split_of,
)
from pipeline.core.stage import Run, main_process, say, stage_main
from pipeline.tasks import Split, Task, load_task

if TYPE_CHECKING:
    from pipeline.modeling.comparisons import Sampling

SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass
class CollectSection:
    """Keys of the ``collect`` section."""

    annotator: str = field(
        default="oracle", metadata={"help": "A module of pipeline/annotators or a dotted path."}
    )
    annotator_args: dict[str, Any] = field(default_factory=dict[str, Any])
    comparisons: int = field(
        default=1500, metadata={"help": "Prompts to sample completions of; a source brings its own."}
    )
    completions: int = field(
        default=2, metadata={"help": "Completions of each prompt; every two of them are a comparison."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Of sampling the completions."})
    serve: bool = field(default=True, metadata={"help": "Where people annotate: serve the page, and wait."})
    batch_size: int = field(default=128, metadata={"help": "Completions sampled at a time."})
    test_share: float = field(default=0.1, metadata={"help": "Share held out for measuring the reward model."})
    split_by: Literal["prompt", "completion"] = field(
        default="prompt",
        metadata={"help": "What is on one side of the split only; completion where all prompts are alike."},
    )

    def __post_init__(self) -> None:
        if self.comparisons < 2:
            raise ValueError(f"comparisons {self.comparisons} is below 2")
        if not 2 <= self.completions <= 16:
            raise ValueError(f"completions {self.completions} should be 2 to 16")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share {self.test_share} is not between 0 and 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} would sample the same completion twice")


@dataclass(frozen=True)
class Judged:
    """A comparison, its answer, and the side of the split it is on; None where its texts are on both."""

    comparison: Comparison
    answer: Annotation | Abstention
    split: str | None


def run(run: Run) -> None:
    """Write ``prompts``, ``comparisons`` and ``preferences``; the first alone where no reward model is trained."""
    config = run.config
    options = config.options("collect", CollectSection)
    task = load_task(config.task, config.task_args, str(config.path))
    prompts = {
        s: [{"id": digest([t]), "prompt": t} for t in dict.fromkeys(task.prompts(s, None, config.seed))]
        for s in SPLITS
    }
    if not collects_preferences(config):
        sources = ", ".join(s.value for s in reward_sources(config))
        say("collect", f"prompts only, nobody is asked to choose: ppo.reward is {sources}")
        publish_prompts(run, prompts)
        return
    if options.annotator == "human":
        if main_process():  # one page, one log
            ask_people(run, options, task, prompts)
        return
    context = Context(task.gold_scores, config.seed, str(config.path))
    annotator = load_annotator(options.annotator, options.annotator_args, context)
    if isinstance(annotator, Source):
        judged = [
            Judged(c, a, side(c.prompt, (c.completion_a, c.completion_b), options)) for c, a in annotator.judged()
        ]
        report = annotator.report()
        for line in report.get("notices", ()):
            say("collect", f"{report['dataset']}: {line}")
    else:
        sampling, splits = draw(run, options, task)
        drawn = list(sampling)
        say("collect", f"{len(drawn)} comparisons go to {annotator.name}")
        answers = annotator.annotate_all([c for _, c in drawn])
        judged = [Judged(c, a, splits[i]) for (i, c), a in zip(drawn, answers, strict=True)]
        report = sampling.report()
    publish(run, prompts, judged, {"annotator": annotator.name, **report})


def side(prompt: str, completions: Sequence[str], options: CollectSection) -> str | None:
    """The side of the split of completions that somebody else brought.

    By completion, texts that fall on different sides are on neither: trained on, they would show the reward model
    a text it is tested with.
    """
    if options.split_by == "prompt":
        return split_of(prompt, options.test_share)
    sides = {split_of(c, options.test_share) for c in completions}
    return sides.pop() if len(sides) == 1 else None


def draw(
    run: Run, options: CollectSection, task: Task, at_a_time: int | None = None
) -> tuple[Sampling, list[str]]:
    """Completions for each prompt from the base, or from the policy that ``inputs`` names; nothing is sampled yet.

    Returns:
        What to iterate over for comparisons, and the split of each prompt.
    """
    from pipeline.modeling.comparisons import Sampling

    held_out = max(1, round(options.comparisons * options.test_share))
    sizes: dict[Split, int] = {"train": options.comparisons - held_out, "test": held_out}
    drawn = [(p, split) for split, n in sizes.items() for p in task.prompts(split, n, run.config.seed)]
    sampling = Sampling(
        run.base,
        run.version("policy").path if "policy" in run.inputs else None,
        [p for p, _ in drawn],
        completion_tokens=task.completion_tokens,
        per_prompt=options.completions,
        temperature=options.temperature,
        batch_size=options.batch_size,
        seed=run.config.seed,
        at_a_time=at_a_time,
    )
    return sampling, [split for _, split in drawn]


def ask_people(run: Run, options: CollectSection, task: Task, prompts: dict[str, list[dict[str, Any]]]) -> None:
    """Write ``prompts`` and ``comparisons`` as soon as they are there, ``preferences`` when people have labelled
    enough of them; see :mod:`pipeline.annotators._asking`.
    """
    from pipeline.annotators._asking import Asked, ask

    def sampled() -> tuple[Iterator[tuple[str, Comparison]], Callable[[], dict[str, Any]]]:
        sampling, splits = draw(run, options, task, at_a_time=options.batch_size)
        return ((splits[i], comparison) for i, comparison in sampling), sampling.report

    ask(
        run,
        Asked(
            sampled=sampled,
            side=lambda prompt, completions: side(prompt, completions, options),
            write_prompts=lambda: publish_prompts(run, prompts),
            serve=options.serve,
        ),
    )


def publish_prompts(run: Run, prompts: dict[str, list[dict[str, Any]]]) -> None:
    """Write the prompts of both splits."""
    with run.draft("prompts") as draft:
        for split in SPLITS:
            draft.write_rows(split, prompts[split], schema=PROMPTS)


def publish(
    run: Run, prompts: dict[str, list[dict[str, Any]]], judged: list[Judged], report: dict[str, Any]
) -> None:
    """Write the three datasets; ``preferences`` last, as it stands for the stage being done."""
    counts = count(judged)
    _require_rows(run, judged, counts)
    publish_prompts(run, prompts)
    with run.draft("comparisons") as draft:
        for split in SPLITS:
            draft.write_rows(split, comparison_rows(j for j in judged if j.split == split), schema=COMPARISONS)
        draft.stats.update(report)
    parents = [(draft.version, "comparisons")]
    previous = run.version("previous") if "previous" in run.inputs else None
    governance = {"consent": "not needed: no person annotated here"}
    with run.draft("preferences", parents=parents, governance=governance) as draft:
        for split in SPLITS:
            carry = previous if previous is not None and previous.has_split(split) else None
            known = {r["id"] for r in carry.iter_rows(split, columns=["id"])} if carry else set()
            own = [j for j in judged if j.split == split]
            draft.write_rows(
                split, (r for r in preference_rows(own) if r["id"] not in known), schema=PREFERENCES, carry=carry
            )
            draft.write_rows(split, vote_rows(own), config="votes", schema=VOTES)
        draft.stats.update(counts, **report)
    say("collect", ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in counts.items()))


def count(judged: list[Judged]) -> dict[str, int]:
    """How many were decided, tied, bad on both sides, not answered, and on both sides of the split."""
    kinds = [j.answer.choice if isinstance(j.answer, Annotation) else "abstained" for j in judged]
    return {
        "comparisons": len(kinds),
        "decided": kinds.count("a") + kinds.count("b"),
        "ties": kinds.count("tie"),
        "both_bad": kinds.count("both_bad"),
        "abstained": kinds.count("abstained"),
        "straddling_the_split": sum(j.split is None for j in judged),
    }


def preference_rows(judged: list[Judged]) -> Iterator[dict[str, Any]]:
    """Training rows of the decided comparisons, each once."""
    seen: set[str] = set()
    for j in judged:
        row = preference_from(j.comparison, j.answer) if isinstance(j.answer, Annotation) else None
        if row is not None and row.id not in seen:
            seen.add(row.id)
            yield {"id": row.id, **vars(row)}


def comparison_rows(judged: Iterator[Judged]) -> Iterator[dict[str, Any]]:
    """Each comparison once, however many judged it."""
    for c in {j.comparison.id: j.comparison for j in judged}.values():
        yield {"id": c.id, "prompt": c.prompt, "completion_a": c.completion_a, "completion_b": c.completion_b}


def vote_rows(judged: list[Judged]) -> Iterator[dict[str, Any]]:
    """Every single answer, ties and abstentions with their reason included."""
    for j in judged:
        yield {
            **dict.fromkeys(VOTES),
            "id": digest([j.answer.comparison_id, j.answer.annotator]),
            **vars(j.answer),
        }


def _require_rows(run: Run, judged: list[Judged], counts: dict[str, int]) -> None:
    for split in SPLITS:
        if any(j.split == split and isinstance(j.answer, Annotation) and j.answer.choice in "ab" for j in judged):
            continue
        distinct = len({j.comparison.prompt for j in judged})
        if distinct == 1:
            mend = "All share one prompt: set collect.split_by=completion, or bring more prompts."
        else:
            mend = "Bring more prompts, or change collect.test_share."
        found = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in counts.items())
        raise DataError(
            f"{run.config.path}: collect",
            f"split {split} would hold no preference ({found}; {distinct} distinct prompts).",
            mend,
        )


def main(argv: list[str] | None = None) -> int:
    return stage_main("collect", run, argv)


if __name__ == "__main__":
    guard(main)
