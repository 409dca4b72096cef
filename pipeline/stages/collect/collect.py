"""collect: write prompts, comparisons of two completions, and an annotator's choices between them."""

from __future__ import annotations

from functools import partial

from pipeline.annotators import Context, Opponent, Readers, Source, load_annotator
from pipeline.base.errors import ConfigError
from pipeline.base.records import Annotation
from pipeline.evaluation.reward.labels import label_agreement
from pipeline.governance.consent import NOT_NEEDED, UNKNOWN
from pipeline.results.stats import to_json
from pipeline.served.collecting import discard_journal, write_completions
from pipeline.stages.collect.answered_pairs import Answered, Judged, Row
from pipeline.stages.collect.ask_people import ask_people
from pipeline.stages.collect.draw_pairs import draw
from pipeline.stages.collect.prompt_splits import prompts_by_split, side
from pipeline.stages.collect.publish import publish, publish_prompts
from pipeline.stages.collect.voted_pairs import Voted
from pipeline.stages.data.scrub import ScrubbedSource
from pipeline.stages.readers.opinions import publish_opinions
from pipeline.tasks import VIEWS, Task, load_task, with_template_of, written_texts
from pipeline.tasks._vader import VADER_NAME
from pipeline.texts.personal_data.count import STATS, in_words
from pipeline.workflow.graph import collects_preferences, reward_sources
from pipeline.workflow.sections.collect import CollectSection
from pipeline.workflow.stage import Run, main_process, say


def collect(run: Run) -> None:
    """Write ``prompts``, ``comparisons`` and ``preferences``; the first alone where no reward model is trained."""
    config = run.config
    options = config.collect
    task = load_task(config.task, config.task_args, str(config.path), run.base_name)
    prompts = prompts_by_split(task, options, config.seed)
    if not collects_preferences(config):
        sources = ", ".join(s.value for s in reward_sources(config))
        say("collect", f"prompts only, nobody is asked to choose: ppo.reward is {sources}")
        publish_prompts(run, prompts)
        return
    if config.asks_people:
        if main_process():  # there is one page and one log
            ask_people(run, options, task, prompts)
        return
    if options.sampler is not None and not main_process():  # nothing is asked for twice
        return
    written, readers = partial(written_texts, task), getattr(task, "readers", {})
    context = Context(task.gold_scores, config.seed, str(config.path), VIEWS, written, readers)
    if shares_its_errors(options, task):
        say(
            "collect",
            f"NO JUDGE: the labels come from the gold score itself, and that is {task.gold_name}: where it errs, "
            "no figure will show it. Name a judge that the annotator is not: ppo.check, evaluate.judges.",
        )
    annotator = load_annotator(options.annotator, with_template_of(run.base_name, options.annotator_args), context)
    if isinstance(annotator, Source):
        annotator = ScrubbedSource(annotator) if options.scrub else annotator
        voted = Voted(annotator, lambda prompt, completions: side(prompt, completions, options), run.workdir)
        report = annotator.report()
        for line in report.get("notices", ()):
            say("collect", f"{report['dataset']}: {line}")
        if options.scrub:
            say("collect", f"{in_words(report[STATS])} replaced by placeholders")
        consent = getattr(annotator, "consent", f"{UNKNOWN}: {annotator.name} does not say what people agreed to")
        publish(run, prompts, voted, {"annotator": annotator.name, **report}, consent)
        return
    if options.scrub:
        what = f"collect.scrub = True has no effect with {annotator.name}, which brings no texts."
        raise ConfigError(str(config.path), what, "Scrub what was made: data scrub REF.")
    opponent = annotator if isinstance(annotator, Opponent) else None
    sampling, splits = draw(run, options, task, prompts, opponent=opponent)
    drawn = list(sampling)
    say("collect", f"{len(drawn)} comparisons go to {annotator.name}")
    if isinstance(annotator, Readers):
        publish_prompts(run, prompts)
        publish_opinions(run, annotator, [(splits[i], c) for i, c in drawn], sampling.report())
        return
    answers = annotator.annotate_all([c for _, c in drawn])
    judged = [Judged(c, a, splits[i]) for (i, c), a in zip(drawn, answers, strict=True)]
    report = {"annotator": annotator.name, **sampling.report(), **against_gold(task, judged)}
    consent = f"{NOT_NEEDED}: no person annotated here"
    answered = Answered(judged, getattr(annotator, "votes_singly", False))
    publish(run, prompts, answered, report, consent, lambda draft: write_completions(draft, sampling, splits))
    discard_journal(run)


def shares_its_errors(options: CollectSection, task: Task) -> bool:
    """Whether the labels come from a gold score that is VADER's opinion, not the truth."""
    if options.annotator != "oracle" or task.gold_name != VADER_NAME:
        return False
    return options.annotator_args.get("view", "gold") in ("gold", "vader")


def against_gold(task: Task, judged: list[Judged]) -> Row:
    """Print how far the labels agree with the gold score, and return it for the manifest; empty without one."""
    answered = [(j.comparison, j.answer) for j in judged if isinstance(j.answer, Annotation)]
    prompts = [c.prompt for c, _ in answered]
    gold_a = task.gold_scores(prompts, [c.completion_a for c, _ in answered])
    gold_b = task.gold_scores(prompts, [c.completion_b for c, _ in answered])
    if gold_a is None or gold_b is None:
        return {}
    agreement = label_agreement([answer for _, answer in answered], gold_a, gold_b)
    if agreement is None:
        return {}
    by_scores = agreement.scores
    went_by = f"; the scores the annotator went by, on {by_scores.value:.2f}" if by_scores else ""
    share = f"{agreement.labels.value:.2f} of the {agreement.n} pairs whose gold differs{went_by}"
    say("collect", f"labels agree with the gold score ({task.gold_name}) on {share}")
    return {"agreement_with_gold": to_json(agreement)}
