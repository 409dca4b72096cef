"""A policy to talk to that loads no model: it answers what a script says, word by word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from pipeline.base.errors import DataError
from pipeline.chat.asking import Talk
from pipeline.chat.engine import Engine
from pipeline.chat.exchange import Exchange, ticket
from pipeline.chat.explanations import Explanation
from pipeline.chat.questions import Question, Tell, Update
from pipeline.chat.served import Served, Settings
from pipeline.formats.messages import Message
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import Answerer
from pipeline.scoring.attribution import Attribution
from pipeline.scoring.token_scores import TokenScores
from tests.unit.labelling.helpers import agree

BASE = Answerer(role="base", ref="demo-base@v000001", id="b" * 64)
POLICY = Answerer(role="policy", ref="demo-policy@v000001", id="p" * 64)
Script = Callable[[str], tuple[str, str]]


def echoing(text: str) -> tuple[str, str]:
    return f" The base on {text}.", f" The policy, on {text}, is brief."


@dataclass
class ScriptedEngine:
    """Answers by ``script``; while ``held`` is clear it waits after the first word of each answer."""

    script: Script = echoing
    has_template: bool = True
    held: threading.Event = field(default_factory=threading.Event)
    questions: list[Question] = field(default_factory=list)
    settings: Settings = field(default_factory=lambda: Settings(0.7, 40))
    scorer: Any = True
    followed: Any = True
    attributes: bool = False
    explanations: list[Explanation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held.set()
        self.prompting = SimpleNamespace(has_template=self.has_template)

    def ask(self, who: str, messages: Sequence[Message], tell: Tell, order: tuple[int, ...]) -> Question:
        text = messages[-1]["content"]
        if len(text) > 2000:
            raise DataError("the conversation", "has 2,500 tokens; this base reads 88 and answers in 40.")
        prompt = "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
        question = Question(who, prompt, [1], 7, tell, order)
        self.questions.append(question)
        threading.Thread(target=self._answer, args=(question, self.script(text)), daemon=True).start()
        return question

    def _answer(self, question: Question, answers: tuple[str, str]) -> None:
        words = [answer.split(" ") for answer in answers]
        for n in range(1, max(map(len, words)) + 1):
            for side in question.order:
                if n <= len(words[side]):
                    question.tell(Update("text", side, " ".join(words[side][:n])))
            if n > 1:
                self.held.wait(20)
        for side in (0, 1):
            question.tell(Update("done", side, answers[side], len(words[side]), 0.25 - side, side == 1))
        question.tell(Update("over"))

    def explain(
        self, who: str, prompt: str, completion: str, score: float, attribution: bool = False
    ) -> Explanation:
        explanation = Explanation(who, prompt, completion, score, attribution)
        self.explanations.append(explanation)
        if self.held.is_set():
            explanation.result.set_result(explained(prompt, completion, attribution))
        return explanation

    def stop(self, question: Question) -> None:
        question.stopped = True

    def close(self) -> None:
        pass


def explained(prompt: str, completion: str, attribution: bool) -> TokenScores | Attribution:
    """Scores that rise and fall by turns, ever less, or attributions that do."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(completion.split(" "))]
    changes = [(-1) ** n * 2.0 ** (-n / 2) for n in range(len(words))]
    if attribution:
        total = 0.5 + sum(changes)
        return Attribution([(prompt, 0.5)], list(zip(words, changes, strict=True)), total, 0.001, 64)
    return TokenScores(0.1, words, [0.1 + sum(changes[: n + 1]) for n in range(len(words))])


def talk(engine: ScriptedEngine | None = None, *, blind: bool = False) -> Talk:
    served = Served(
        policy=cast(
            "Any",
            SimpleNamespace(name="demo-policy", ref=POLICY.ref, id=POLICY.id, manifest=SimpleNamespace(stats={})),
        ),
        base=("x", None),
        base_answerer=BASE,
        reward=None,
        ppo={},
        temperature=0.7,
        completion_tokens=40,
        system=None,
    )
    return Talk(cast("Engine", engine or ScriptedEngine()), served, blind)


def exchange(who: str, text: str = "cats", *, blind: bool = False, **changes: Any) -> Exchange:
    """An exchange as a page gets it."""
    answers = echoing(text)
    content: dict[str, Any] = {
        "id": f"exchange-{text}", "who": who, "prompt": f"user: {text}", "opening": text, "completions": answers,
        "answerers": (BASE, POLICY), "scores": (0.25, -0.75), "blind": blind,
        "sampling": {"temperature": 0.7, "completion_tokens": 40, "seed": 7},
    }  # fmt: skip
    return Exchange(**(content | changes))


def opinion(log: Log, of: Exchange, type: str, key: str, **content: Any) -> dict[str, Any]:
    """What a page sends."""
    text, signature = ticket(of, log.people)
    return {"key": key, "type": type, "exchange": text, "signature": signature, **content}


def agreed(log: Log, name: str) -> str:
    """A person who agreed to the text; their id."""
    person = log.people.add(name)
    if log.answers.consent_of(person.id) is None:
        agree(log, person.id)
    return person.id
