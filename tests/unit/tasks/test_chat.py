"""Conversations: what is asked can be read back, no test prompt is in the corpus, and all templates are one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.formats.messages import render_plain
from pipeline.labelling.conversation import turns
from pipeline.modeling.scratch import train_tokenizer
from pipeline.tasks import load_task
from pipeline.tasks.chat import Task
from pipeline.tasks.grammars.conversations import VALUES, Conversation, conversation, reply
from pipeline.tasks.truths.helpful_reply import Asked, helpful_reply, read
from pipeline.trainers.sft import tokenize_corpus

HISTORY = (
    "User: Hello. I choose the name Ada. Please note the city Rome.\n\n"
    "Assistant: So it is the city Oslo. You chose the number seven.\n\n"
    "User: I take the colour red. I take the fruit melon.\n\nAssistant: Noted.\n\n"
    "User: No, I change to the colour green.\n\nAssistant: I see.\n\nUser: {}\n\nAssistant:"
)
COLOUR = HISTORY.format("Please tell me the colour again.")
DRINK = HISTORY.format("What was the drink?")


def score(prompt: str, text: str) -> float:
    return round(helpful_reply(read(prompt), text), 3)


# Mutations caught: facts of the assistant's turns; the first value of a corrected fact; the first question.
def test_the_history_is_read_from_the_users_turns() -> None:
    facts = {"name": "Ada", "city": "Rome", "colour": "green", "fruit": "melon"}
    assert read(COLOUR) == Asked("colour", facts)
    assert (read(COLOUR).value, read(DRINK).value) == ("green", None)


@pytest.mark.parametrize("seed", range(3))
def test_every_conversation_of_the_grammar_is_read_back(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        talk = conversation(rng, 0.2)
        assert read(render_plain(talk.messages, "")[0]) == Asked(talk.asked, talk.facts)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("Of course. You chose the colour green.", 1.0),
        ("It is green.", 0.75),
        ("GREEN, Ada, with pleasure!", 1.0),
        ("As I said before. It is green.", 0.5),  # brief, and rude
        ("Of course. As I said before. It is green.", 0.5),  # rudeness is not made up for
        ("Of course. It is red.", 0.0),  # the value before it was changed
        ("Of course. It is red or green.", 0.0),
        ("Of course. It is melon.", 0.0),  # another fact's
        ("Of course. I am sorry, you have not told me.", 0.0),
        ("Sorry, you have not told me, but it is green.", 0.0),
        ("", 0.0),
        ("Of course. You chose the colour green. You chose the city Rome.", 0.25),
        ("Of course. It is green. You like melon. You live in Rome.", 0.0625),
        ("Of course. You chose the colour gre", 0.0),
        ("Of course. You chose the colour green", 0.5),  # cut
        ("Of course. Of course. It is green.", 0.5),
    ],
)
def test_a_reply_is_right_or_worth_nothing(text: str, worth: float) -> None:
    assert score(COLOUR, text) == pytest.approx(worth, abs=0.05)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("I am sorry, you have not told me the drink.", 1.0),
        ("Sorry, I don't know that yet.", 1.0),
        ("You never told me.", 0.75),
        ("Of course. It is tea.", 0.0),
        ("I am sorry, you have not told me, maybe tea.", 0.0),
        ("I am not sure.", 0.0),
    ],
)
def test_what_was_not_told_is_not_guessed(text: str, worth: float) -> None:
    assert score(DRINK, text) == worth


def test_length_and_repetition() -> None:
    long = "Of course. You chose the colour green. There is always a lot to say."  # 14 words
    assert score(COLOUR, long) == pytest.approx(0.5 + 0.25 + 0.25 * 6 / 8, abs=1e-3)
    assert score(COLOUR, " ".join(["please"] * 9 + ["green."])) == pytest.approx(2 / 10 / 0.7, abs=1e-3)


# A turn in words of one's own, as people type them into `make try`: nothing is known to be right.
def test_other_questions_are_judged_by_manners() -> None:
    other = HISTORY.format("Who won the cup?")
    assert (score(other, "I do not know, sorry."), score(other, "The best.")) == (1.0, 0.75)


# All that was told, in one reply.
def test_parroting_is_worth_little() -> None:
    prompts = [read(p) for p in Task(conversations=600, chat_template=None).prompts("test", None, 0)]
    parrots = [" ".join(["Of course.", *(f"You chose the {k} {v}." for k, v in p.facts.items())]) for p in prompts]
    assert sum(map(helpful_reply, prompts, parrots)) / len(prompts) < 0.25


# The reply that is best on the whole, of each kind of question, without a look at the history.
def test_no_reply_is_helpful_without_the_history() -> None:
    prompts = [read(p) for p in Task(conversations=600, chat_template=None).prompts("test", None, 0)]
    best = 0.0
    for fact, values in VALUES.items():
        asked = [p for p in prompts if p.fact == fact]
        lines = [f"Of course. It is {v}." for v in values] + ["Sorry, I do not know."]
        best += max(sum(helpful_reply(p, line) for p in asked) for line in lines)
    everything = "Of course: " + ", ".join(v for values in VALUES.values() for v in values) + "."
    assert sum(helpful_reply(p, everything) for p in prompts) == 0
    assert best / len(prompts) < 0.3


def test_replies_of_the_corpus_are_of_all_kinds() -> None:
    rng, scores = random.Random(0), []
    for _ in range(400):
        talk = conversation(rng, 0.15)
        scores.append(helpful_reply(Asked(talk.asked, talk.facts), reply(rng, talk)))
    assert 0.2 < sum(scores) / len(scores) < 0.4
    assert 0.45 < sum(s == 0 for s in scores) / len(scores) < 0.65
    assert sum(s > 0.9 for s in scores) > 40


def test_no_test_prompt_is_in_the_corpus() -> None:
    task = Task(conversations=300, corpus_size=300, chat_template=None)
    held_out = set(task.prompts("test", None, 0))
    assert held_out.isdisjoint(task.prompts("train", None, 0))
    corpus = task.corpus(0)
    assert held_out.isdisjoint(render_plain(text[:-1], "")[0] for text in corpus)
    assert task.prompts("test", 5, 1) == task.prompts("test", 5, 1) != task.prompts("test", 5, 2)


# Mutation caught: a corpus by another template than the prompts', or with the end of the reply in it twice.
def test_one_template_writes_the_corpus_and_the_prompts(tmp_path: Path) -> None:
    task = Task(conversations=40, corpus_size=60, system="Be kind.")
    corpus = task.corpus(0)
    tokenizer = train_tokenizer([m["content"] for text in corpus for m in text], 600, chat=True)
    tokenizer.save_pretrained(tmp_path)
    tokenized = tokenize_corpus(tokenizer, corpus[:1], 256)
    whole = tokenizer.apply_chat_template(corpus[0], tokenize=False)
    assert f"{tokenizer.decode(tokenized.rows[0])}\n" == whole
    assert [role for role, _ in turns(whole)][:2] == ["system", "user"]
    ids = tokenizer(whole)["input_ids"]
    marks = [tokenizer.convert_tokens_to_ids(m) for m in ("<|im_start|>", "<|im_end|>")]
    assert [ids.count(mark) for mark in marks] == [len(corpus[0])] * 2  # each is one token
    assert tokenizer.eos_token_id == marks[1]
    # The replies are trained, each with the mark that ends it, and nothing else.
    assert tokenized.replies is not None
    trained = [i for i, is_reply in zip(tokenized.rows[0], tokenized.replies[0], strict=True) if is_reply]
    replies = [m["content"] for m in corpus[0] if m["role"] == "assistant"]
    assert tokenizer.decode(trained) == "".join(f"{reply}<|im_end|>" for reply in replies)
    assert [len(mask) for mask in tokenize_corpus(tokenizer, corpus[:3], 20).replies or ()] == [20] * 3
    assert tokenize_corpus(tokenizer, ["plain"], 20).replies is None
    loaded = load_task("chat", {"conversations": 40, "system": "Be kind."}, "x.yaml", str(tmp_path))
    prompt = loaded.prompts("train", 1, 0)[0]
    assert prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_named_system_turn_is_no_users() -> None:
    talk = Conversation()
    talk.messages = [
        {"role": "system", "content": "The customer takes the name Ben."},
        {"role": "user", "content": "What was the name?"},
    ]
    assert read(render_plain(talk.messages, "")[0]) == Asked("name", {})
