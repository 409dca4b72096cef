"""Explain a score on demand: after every token, or divided over the tokens; long ones leave room for answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from pipeline.base.errors import DataError, PipelineError
from pipeline.base.process import say
from pipeline.scoring.attribution import Attribution, attribute
from pipeline.scoring.scorer import Scorer
from pipeline.scoring.token_scores import TokenScores, same_score, token_scores

MOST_TOKENS = 2048
"""Of prompt and answer together; attention is computed over the square of it."""
NAME = "the score"


class Abandoned(Exception):
    """Raised inside a computation whose asker has gone."""


@dataclass(eq=False)
class Explanation:
    """One score that a person asked about.

    Attributes:
        score: the one that stands beside the answer.
        attribution: divide it over the tokens, rather than follow it.
    """

    who: str
    prompt: str
    completion: str
    score: float
    attribution: bool
    result: Future[TokenScores | Attribution] = field(default_factory=Future[TokenScores | Attribution])
    stopped: bool = False

    def stop(self) -> None:
        """End it; it ends within a round of the answers in progress."""
        self.stopped = True

    def fail(self, text: str) -> None:
        self.result.set_exception(DataError(NAME, text))

    def compute(self, scorer: Scorer, go_on: Callable[[], object]) -> None:
        """Set the result or the error.

        Args:
            go_on: answers what is in progress; raises Abandoned where this is not wanted any more.
        """
        explain = attribute if self.attribution else token_scores
        try:
            if self.stopped:
                raise Abandoned
            result = explain(scorer, self.prompt, self.completion, go_on)
            if same_score(result.score, self.score):
                self.result.set_result(result)
            else:
                self.fail(f"is {result.score:.2f} here, and {self.score:.2f} beside the answer.")
        except Abandoned:
            self.fail("is not explained: the server is stopping, or you have stopped it.")
        except PipelineError as err:
            self.result.set_exception(err)
        except Exception as err:  # of this one; answers and other explanations go on
            # A bug's message may hold text of the askers.
            say("chat", f"an explanation failed: {type(err).__name__}")
            self.fail("could not be explained; see the server's terminal.")
