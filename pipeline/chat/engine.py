"""Answer several people at once: base and policy on one model, by turns, each answer streamed token by token.

One thread does all the work of the models. A round gives every answer in progress one token, all in one batch, so
that nobody waits for another's answer to end. Questions beyond :data:`AT_ONCE` wait their turn, one of each person
before anybody's second.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn

from pipeline.base.errors import DataError, PipelineError
from pipeline.base.process import say
from pipeline.chat.conversation import Prompting
from pipeline.chat.explanations import MOST_TOKENS, Abandoned, Explanation
from pipeline.chat.questions import Question, Tell, Update
from pipeline.chat.served import Served, Settings
from pipeline.chat.streaming import Batch, Stream
from pipeline.formats.messages import Message
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.lora import fuse_lora
from pipeline.modeling.precision import base_dtype
from pipeline.modeling.roles import Role, load_policy
from pipeline.modeling.tokens import encode_completions
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.scoring.attribution import can_attribute
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.followable_models import followable
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.store.store import Store

T = TypeVar("T")

AT_ONCE = 8
"""Questions that are answered at a time; a cache of keys and values is held for two answers to each."""
SEEDS = 2**48
"""Below 2^53, so that every reader of JSON keeps a seed as it is."""
WAITING_EACH = 4
"""Questions of one person that may wait or be answered."""


class Engine:
    """Base and policy of a version, loaded once, and the thread that answers.

    Attributes:
        roles: base and policy; both of one model where the policy is an adapter.
        scorer: what answers are scored by; None without.
        followed: the scorer where its score can be explained token by token; None for functions and ensembles.
        attributes: whether it can also be divided over the tokens.
    """

    def __init__(
        self, roles: Sequence[Role], tokenizer: Tokenizer, settings: Settings, scorer: Scorer | None = None
    ) -> None:
        self.roles, self.tokenizer, self.settings, self.scorer = tuple(roles), tokenizer, settings, scorer
        self.prompting = Prompting(roles[0].model, tokenizer, settings.system, settings.completion_tokens)
        self.followed = followable(scorer, tokenizer)
        self.attributes = self.followed is not None and can_attribute()
        self._batches: list[Batch] = []
        self._explanations: list[Explanation] = []
        self._waiting: list[Question] = []
        self._active: list[Question] = []
        self._changed = threading.Condition()
        self._closed = False
        self._asked = self._begun = 0
        self._last_begun: dict[str, int] = {}
        self._thread: threading.Thread | None = None

    @classmethod
    def load(cls, store: Store, served: Served, settings: Settings) -> Engine:
        """Load a policy, with its base and what scored it. Raises ModelError where one does not load."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = base_dtype(None, device)
        model, tokenizer = load_policy(*served.base, served.policy.path, dtype)
        cast("nn.Module", model).to(device)
        if hasattr(model, "peft_config"):
            fuse_lora(cast("nn.Module", model))
            roles = Role(model), Role(model, "policy")
        else:
            base = cast("nn.Module", load_policy(*served.base, dtype=dtype)[0]).to(device)
            roles = Role(cast("CausalLM", base)), Role(model)
        return cls(roles, tokenizer, settings, load_scorer(store, served, model, tokenizer, device))

    def ask(
        self,
        who: str,
        messages: Sequence[Message],
        tell: Tell,
        order: tuple[int, ...] = (0, 1),
        seed: int | None = None,
    ) -> Question:
        """Ask both sides; the answers come to ``tell``.

        Args:
            order: of the sides in which they report; where names are hidden, that of the page.
            seed: of the answers' randomness; by default the settings', plus the number of the question, or any.
        Raises:
            DataError: the conversation does not fit the base, or this person has too many questions open.
            ModelError: the chat template refuses the conversation.
        """
        prompt = self.prompting.text(messages)
        ids = self.prompting.ids(prompt)
        with self._changed:
            mine = sum(q.who == who for q in (*self._waiting, *self._active))
            if mine >= WAITING_EACH:
                raise DataError("questions", f"{mine} of yours are being answered.", "Wait for one to end.")
            if seed is None and self.settings.seed is not None:
                seed = self.settings.seed + self._asked
            self._asked += 1
            seed = secrets.randbelow(SEEDS) if seed is None else seed
            question = Question(who, prompt, ids, seed, tell, order)
            self._wake(self._waiting, question)
        return question

    def explain(
        self, who: str, prompt: str, completion: str, score: float, attribution: bool = False
    ) -> Explanation:
        """Ask how a score came about; computed between the rounds of answers in progress, in the order asked.

        Args:
            score: the one that stands beside the answer; another one is an error.
        Raises:
            DataError: this scorer cannot be followed, the text is too long, or this person has asked already.
        """
        if self.followed is None or (attribution and not self.attributes):
            mend = "Install captum." if attribution and self.followed is not None else ""
            raise DataError("the score", "cannot be explained by tokens here.", mend)
        tokens = len(self.prompting.ids(prompt)) + len(encode_completions(self.tokenizer, [completion])[0])
        if tokens > MOST_TOKENS:
            raise DataError("the score", f"the text has {tokens:,} tokens; up to {MOST_TOKENS:,} are explained.")
        explanation = Explanation(who, prompt, completion, score, attribution)
        with self._changed:
            if any(e.who == who and not e.stopped for e in self._explanations):
                raise DataError("the score", "another one is being explained to you.", "Wait for it to end.")
            self._wake(self._explanations, explanation)
        return explanation

    def _wake(self, queue: list[T], asked: T) -> None:
        """Add what was asked to its queue, and wake or start the thread."""
        if self._closed:
            raise DataError("questions", "the server is stopping.", "Start it again.")
        queue.append(asked)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="chat models", daemon=True)
            self._thread.start()
        self._changed.notify()

    def stop(self, question: Question) -> None:
        """End a question whose asker has gone, by the next token; nothing more is told of it."""
        with self._changed:
            question.stopped = True
            self._waiting = [q for q in self._waiting if q is not question]

    def close(self) -> None:
        """End the thread and every question."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # The thread

    def _run(self) -> None:
        while self._next_round():
            self._answer()
            if self._explanations:
                self._explain(self._explanations[0])
        for question in (*self._active, *self._waiting):
            question.tell(Update("failed", text="The server is stopping."))
        for explanation in self._explanations:
            explanation.fail("the server is stopping.")

    def _answer(self) -> None:
        try:
            self._round()
        except Exception as err:  # of these questions; others are answered
            # A bug's message may hold text of the askers.
            known = isinstance(err, PipelineError)
            say("chat", f"a question failed: {err if known else type(err).__name__}")
            text = str(err) if known else "The models failed; see the server's terminal."
            for question in self._active:
                question.tell(Update("failed", text=text))
            with self._changed:
                self._active, self._batches = [], []

    def _explain(self, explanation: Explanation) -> None:
        """Explain one score, with a round of the answers in progress between its parts."""

        def go_on() -> None:
            if explanation.stopped or not self._next_round(wait=False):
                raise Abandoned
            self._answer()

        assert self.followed is not None
        explanation.compute(self.followed, go_on)
        with self._changed:
            self._explanations.remove(explanation)

    def _next_round(self, wait: bool = True) -> bool:
        """Wait for work, begin questions whose turn it is; False once closed."""
        with self._changed:
            self._active = [q for q in self._active if not q.stopped]
            if wait:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._active or self._explanations)
            if self._closed:
                return False
            while self._waiting and len(self._active) < AT_ONCE:
                question = min(self._waiting, key=self._turn)
                self._waiting.remove(question)
                self._active.append(question)
                self._begun += 1
                self._last_begun[question.who] = self._begun
            for place, question in enumerate(sorted(self._waiting, key=self._turn)):
                if question.place != place:
                    question.place = place
                    question.tell(Update("waits", number=place))
            return True

    def _turn(self, question: Question) -> tuple[int, int]:
        """The order of waiting questions: of whom the fewest are in progress, then whose turn was longest ago."""
        who = question.who
        return sum(q.who == who for q in self._active), self._last_begun.get(who, 0)

    def _round(self) -> None:
        """One token of every answer in progress; what has ended is scored and reported."""
        for question in list(self._active):
            if not question.streams and not question.stopped:
                self._begin(question)
                self._report(question)
        wanted = {s for q in self._active if not q.stopped for s in q.streams if not s.over}
        for batch in self._batches:
            batch.keep(wanted.__contains__)
            if batch.rows:
                batch.step()
        self._batches = [batch for batch in self._batches if batch.rows or batch.joins]
        for question in list(self._active):
            if not question.stopped:
                self._report(question)

    def _begin(self, question: Question) -> None:
        """Read the prompt, and draw the first token of both answers."""
        settings = self.settings
        noise = uniforms(2, settings.completion_tokens, torch.Generator().manual_seed(question.seed))
        question.streams = [
            Stream(role, self.tokenizer, question.prompt_ids, noise[side]) for side, role in enumerate(self.roles)
        ]
        models = {id(role.model): role.model for role in self.roles}
        for key, model in models.items():
            batch = next((b for b in self._batches if b.model is model and b.joins), None)
            if batch is None:
                batch = Batch(model, settings.temperature)
                self._batches.append(batch)
            batch.add([s for s in question.streams if id(s.role.model) == key])

    def _report(self, question: Question) -> None:
        """Tell what is new of both answers; a question whose answers have ended leaves."""
        for side in question.order if question.streams else ():
            stream = question.streams[side]
            text = stream.text()
            if text != question.told[side]:
                question.told[side] = text
                question.tell(Update("text", side, text))
            if stream.over and side not in question.reported:
                question.reported.add(side)
                score = self._score(question, stream)
                question.tell(Update("done", side, text, len(stream.ids), score, stream.ended))
        if len(question.reported) == len(self.roles):
            with self._changed:
                self._active.remove(question)
            question.tell(Update("over"))

    def _score(self, question: Question, stream: Stream) -> float | None:
        if self.scorer is None:
            return None
        try:
            samples = Samples([question.prompt_ids], [stream.ids], self.tokenizer, [question.prompt])
            return round(float(self.scorer(samples)[0]), 4)
        except PipelineError as err:
            say("chat", f"no score: {err}")
            return None


def load_scorer(
    store: Store, served: Served, model: CausalLM, tokenizer: Tokenizer, device: torch.device
) -> Scorer | None:
    """What scored the policy in training; None, with a line, where that is not at hand."""
    ppo: Mapping[str, Any] = served.ppo
    context = ScorerContext(
        where=served.policy.where,
        device=device,
        resolve=store.find_version,
        model=model,
        tokenizer=tokenizer,
        adapter_dir=served.reward,
        base=served.base,
    )
    std_coef = float(ppo.get("reward_std_coef") or 1.0)
    try:
        return build(ppo.get("reward"), context, combine=ppo.get("reward_combine"), std_coef=std_coef)
    except PipelineError as err:
        say("chat", f"answers get no score: {err}")
        return None
