"""Sample comparisons from a server, several requests at a time; each completion is kept as it comes.

A completion has its place (prompt, number) and its own seed before anything is asked, so neither the order in
which answers come nor a kill changes which row is which.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import ModelError
from pipeline.base.json_values import JsonObject
from pipeline.base.process import say
from pipeline.base.records import Comparison, digest
from pipeline.formats.messages import Message
from pipeline.modeling import tokens
from pipeline.modeling.comparisons import Pairing
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.endpoint import Endpoint, RequestRefused, Stopped
from pipeline.served.journal import Journal
from pipeline.served.prompts import Turns, text_of
from pipeline.served.requests import REFUSED, Completion, Kind, kind_of, parse_models, request
from pipeline.workflow.samplers import SamplerOptions

COMPLETIONS = {
    "id": "string",
    "prompt": "string",
    "number": "int32",
    "seed": "int64",
    "completion": "string",
    "token_ids": "list<int32>",
    "ended": "bool",
    "finish_reason": "string",
}
"""Schema of the completions themselves; without a text where the server refused."""

GRACE_SECONDS = 10.0
"""After a failure, how long answers under way are waited for; they are kept, too."""

RECORDED = ("id", "root", "parent", "owned_by", "max_model_len", "meta", "path")
"""What is recorded of the server's entry of a model. Others change, or hold its command line."""

TEMPLATE = {
    "completions": "ours: the server continues the prompt as it is",
    "chat": "the server's: it gets turns",
}
"""Whose chat template wrote what the model read."""


@dataclass(frozen=True)
class Place:
    """Where a completion belongs (the index of its prompt, its number among that prompt's); its seed and key."""

    index: int
    number: int
    seed: int
    key: str


class ServedSampling:
    """As :class:`pipeline.modeling.comparisons.Sampling`, from a server.

    Args:
        prompts: as versions hold them.
        tokenizer: the base's: it reads the server's token ids, where the server has the same vocabulary.
        turns: reads prompts into messages, for ``api: chat``.
        journal: directory of a :class:`pipeline.served.journal.Journal`; what is in it is not asked for again.
        backoff: see :class:`pipeline.scoring.endpoint.Endpoint`.
    """

    def __init__(
        self,
        options: SamplerOptions,
        prompts: Sequence[str],
        *,
        tokenizer: Tokenizer,
        turns: Turns,
        journal: Path,
        completion_tokens: int,
        per_prompt: int,
        temperature: float,
        seed: int,
        backoff: float = 0.5,
    ) -> None:
        self.options, self.prompts = options, prompts
        self._journal = Journal(journal)
        self._tokenizer, self._turns = tokenizer, turns
        self._limit, self._temperature, self._seed = completion_tokens, temperature, seed
        self._endpoint = Endpoint(
            options,
            options.model,
            "sampler",
            "Check collect.sampler: url, model, api and request.",
            options.rate,
            backoff,
        )
        self._pairing = Pairing(prompts, per_prompt)
        self._kind: Kind = "other"
        self._entry: JsonObject = {}
        self._kept: dict[str, Completion] = {}
        self._places: list[Place] = []
        self._reads_ids: bool | None = None

    @property
    def total(self) -> int:
        """Completions to sample."""
        return len(self.prompts) * self._pairing.per_prompt

    def report(self) -> JsonObject:
        """See :meth:`pipeline.modeling.comparisons.Pairing.report`; and which server answered what."""
        completions = [self._kept[place.key] for place in self._places]
        ended = Counter(c.ended for c in completions if c.finish not in REFUSED)
        return {
            **self._pairing.report(),
            "ended_share": round(ended[True] / max(len(completions), 1), 4),
            "sampler": {
                "server": self._kind,
                "model": {"id": self.options.model, **self._entry},
                "system_fingerprints": dict(Counter(c.fingerprint for c in completions if c.fingerprint)),
                "api": self.options.api,
                "chat_template": TEMPLATE[self.options.api],
                "text": "decoded from token ids" if self._reads_ids else "the server's",
                "completions": len(completions),
                "ended": ended[True],
                "cut": ended[False],
                "end_unknown": ended[None],
                "refused": dict(Counter(c.finish for c in completions if c.finish in REFUSED)),
                "prompts_read_otherwise": sum(c.alike is False for c in completions),
            },
        }

    def _notices(self) -> Iterator[str]:
        """What a reader should know of these completions before training on them."""
        report = self.report()["sampler"]
        of = f"of {report['completions']} completions"
        if refused := sum(report["refused"].values()):
            yield f"{refused} {of} were refused and are in no comparison"
        if report["cut"] == report["completions"]:
            yield f"the limit of {self._limit} tokens cut all {report['completions']} completions"
        if report["end_unknown"]:
            yield f"the server does not say why {report['end_unknown']} {of} ended"
        if (other := report["prompts_read_otherwise"]) and (
            self.options.api == "completions" or self._turns.templated
        ):
            yield (
                f"the server read the prompts of {other} {of} as other tokens than the base's tokenizer does: it "
                "adds one, such as BOS, has another chat template, or serves another model"
            )

    def rows(self, indices: Callable[[int], bool]) -> Iterator[dict[str, Any]]:
        """Rows of :data:`COMPLETIONS`, once iterated over, of the prompts whose index ``indices`` accepts."""
        for place in filter(lambda place: indices(place.index), self._places):
            completion = self._kept[place.key]
            yield {
                "id": place.key,
                "prompt": self.prompts[place.index],
                "number": place.number,
                "seed": place.seed,
                "completion": self._text(completion),
                "token_ids": None if completion.ids is None else list(completion.ids),
                "ended": completion.ended,
                "finish_reason": completion.finish,
            }

    def __iter__(self) -> Iterator[tuple[int, Comparison]]:
        """Ask for what the journal lacks, and yield each comparison as soon as all before it are there.

        Raises:
            ModelError: the server cannot be reached, has no such model, or refuses all requests. What was received
                is kept.
        """
        with self._journal.held(), self._endpoint.open():
            self._kept = self._journal.read() | self._kept
            self._look()
            each = range(self._pairing.per_prompt)
            self._places = [self._place(i, k) for i in range(len(self.prompts)) for k in each]
            yield from self._pairing.of(self._text(c) for c in self._completions())
        self._refuse_greedy()
        for line in self._notices():
            say("collect", f"{self._endpoint.where}: {line}")

    # ---------------------------------------------------------------- asking

    def _look(self) -> None:
        """Find out which server this is."""
        # `transformers serve` answers 500 where it has no cache of the Hub.
        models = self._endpoint.get("/models", parse_models, without={})
        self._kind, entry, names = kind_of(models, self.options.model)
        self._entry = {key: entry[key] for key in RECORDED if entry is not None and key in entry}
        if entry is None and self._kind in ("vllm", "sglang"):  # the others load, or take, any name
            served = ", ".join(names[:6]) or "nothing"
            raise ModelError(
                self._endpoint.where, f"serves {served}.", "Set collect.sampler.model to one of them."
            )

    def _place(self, index: int, number: int) -> Place:
        # 31 bits, which all servers take.
        seed = int(digest(["completion", self._seed, index, number])[:8], 16) >> 1
        shaped = request(self.options, self._kind, self._sent(index), self._limit, self._temperature)
        return Place(index, number, seed, digest([self.options.url, shaped.path, shaped.body, seed]))

    def _sent(self, index: int) -> str | Sequence[Message]:
        """What the server gets of a prompt: the text, or with ``api: chat`` the turns in it."""
        prompt = self.prompts[index]
        return self._turns.messages(prompt) if self.options.api == "chat" else prompt

    def _completions(self) -> Iterator[Completion]:
        """All completions in the order of their places."""
        from tqdm import tqdm

        received: queue.SimpleQueue[tuple[Place, Completion] | BaseException] = queue.SimpleQueue()
        threads = self._start(received)
        try:
            with tqdm(total=self.total, initial=self._done(), desc="sampling", unit="completion") as bar:
                for place in self._places:
                    while place.key not in self._kept:
                        bar.update(self._keep(received))
                    yield self._kept[place.key]
        finally:
            self._endpoint.stopping.set()
            until = time.monotonic() + GRACE_SECONDS
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            self._keep(received, wait=False)

    def _done(self) -> int:
        return sum(place.key in self._kept for place in self._places)

    def _start(self, received: queue.SimpleQueue[Any]) -> list[threading.Thread]:
        """Threads that ask for the missing completions, each for one at a time."""
        missing = iter([place for place in self._places if place.key not in self._kept])
        lock = threading.Lock()

        def work() -> None:
            try:
                while not self._endpoint.stopping.is_set():
                    with lock:
                        place = next(missing, None)
                    if place is None:
                        return
                    received.put((place, self._ask(place)))
            except BaseException as err:
                received.put(err)
                self._endpoint.stopping.set()

        # Daemons: a request under way does not hold up the end of the process.
        count = min(self.options.concurrency, self.total)
        threads = [threading.Thread(target=work, name=f"sampler-{i}", daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def _ask(self, place: Place) -> Completion:
        shaped = request(self.options, self._kind, self._sent(place.index), self._limit, self._temperature)
        try:
            completion = self._endpoint.post(shaped.path, {**shaped.body, "seed": place.seed}, shaped.parse)
        except RequestRefused as err:
            return Completion("", err.reason)
        return self._compared(completion, place.index)

    def _compared(self, completion: Completion, index: int) -> Completion:
        """The completion with ``alike`` instead of what the server read as its prompt."""
        sent, alike = completion.prompt, None
        if sent is not None:
            own = tokens.encode_prompts(self._tokenizer, [self.prompts[index]])[0]
            alike = sent == len(own) if isinstance(sent, int) else list(sent) == own
        return replace(completion, prompt=None, alike=alike)

    # ---------------------------------------------------------------- keeping

    def _keep(self, received: queue.SimpleQueue[Any], wait: bool = True) -> int:
        """Put what has come into the journal, all with one flush; returns how many completions.

        Raises:
            Exception: the first failure of a thread, once all that came before it is kept.
        """
        items: list[tuple[Place, Completion] | BaseException] = [received.get()] if wait else []
        while not received.empty():
            items.append(received.get())
        failures = [item for item in items if isinstance(item, BaseException) and not isinstance(item, Stopped)]
        batch = [item for item in items if not isinstance(item, BaseException)]
        received_now = {place.key: completion for place, completion in batch}
        self._journal.append(received_now)
        self._kept |= received_now
        if failures and wait:
            raise failures[0]
        return len(batch)

    # ---------------------------------------------------------------- reading

    def _text(self, completion: Completion) -> str | None:
        if completion.finish in REFUSED:
            return None
        if self._reads_ids is None:  # by the first in the prompts' order, so that a rerun decides alike
            own = self.options.api == "completions" and "stop" not in self.options.request
            self._reads_ids = own and completion.ids is not None and completion.alike is True
        if self._reads_ids and completion.ids is not None:
            return text_of(self._tokenizer, completion.ids, completion.ended)
        return self._turns.completion(completion.text) if self.options.api == "chat" else completion.text

    def _refuse_greedy(self) -> None:
        """Raises ModelError where every prompt got the same completion each time: the server does not sample."""
        if self._pairing.pairs and not self._pairing.kept and self._temperature:
            mend = (
                "It may ignore temperature and seed: of `transformers serve`, send "
                "collect.sampler.request.generation_config with do_sample true."
            )
            what = (
                f"gave equal completions of each of {len(self.prompts)} prompts, so there is nothing to compare."
            )
            raise ModelError(self._endpoint.where, what, mend)
