"""A server of completions that misbehaves when told to: 429, 500, cut replies, wrong JSON, no completion.

What it answers depends on the prompt and the seed alone, so that every completion can be checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.records import digest

Fault = Callable[[dict[str, Any], int], str | None]
"""(body, number of the request) -> 429, 500, cut, wrong, html, none, slow, abort, refused, 401 or None."""


def text_for(prompt: str, seed: int) -> str:
    """The only completion of a prompt with this seed."""
    return f" {digest([prompt, seed])[:12]}"


@dataclass
class CompletionServer:
    """What it serves, how it misbehaves, and what it was asked.

    Attributes:
        owner: ``owned_by`` of its models; None has no such route.
        encode: the ids of a text; without it the server gives no ids.
        limit: completions with an odd seed are cut.
        answered: the seed of each completion that was sent whole.
    """

    faults: Fault = lambda _, __: None
    owner: str | None = "vllm"
    model: str = "m"
    encode: Callable[[str], list[int]] | None = None
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    record: Callable[[int], object] = lambda _: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lower = head.lower()
                size = int(lower.split("content-length:")[1].split("\r\n")[0]) if "content-length:" in lower else 0
                body = json.loads(await reader.readexactly(size)) if size else {}
                if not await self.answer(head, body, writer):
                    break
        writer.close()

    async def answer(self, head: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        path = head.split()[1]
        if path.endswith("/models"):
            entry = {"id": self.model, "object": "model", "owned_by": self.owner, "root": "/models/m"}
            found = self.owner is not None
            return await send(writer, 200 if found else 500, {"object": "list", "data": [entry]} if found else b"")
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(head)
        self.paths.append(path)
        fault = self.faults(body, number)
        if fault == "slow":
            await asyncio.sleep(0.02)
        if fault in ("429", "500", "401", "400"):
            more = {"Retry-After": "0.01"} if fault == "429" else {}
            return await send(writer, int(fault), {"error": {"message": "no"}}, more)
        if fault == "refused":
            return await send(writer, 400, {"error": {"code": "context_length_exceeded"}})
        if fault in ("wrong", "html"):
            return await send(writer, 200, b'{"choices": [{"te' if fault == "wrong" else b"<html>")
        reply = self.reply(body, path, "abort" if fault == "abort" else None)
        if fault == "none":
            reply["choices"] = []
        if fault == "cut":
            return await send(writer, 200, reply, cut=True)
        if fault not in ("abort", "none"):
            self.answered.append(body["seed"])
            self.record(body["seed"])
        return await send(writer, 200, reply)

    def reply(self, body: dict[str, Any], path: str, finish: str | None) -> dict[str, Any]:
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        encode, cut = self.encode, body["seed"] % 2
        text = text_for(prompt, body["seed"])
        if path == "/completion":
            ids = encode(text) if encode is not None and body.get("return_tokens") else []
            read = len(encode(prompt)) if encode is not None else 0
            return {
                "content": text,
                "tokens": ids,
                "stop_type": "limit" if cut else "eos",
                "tokens_evaluated": read,
            }
        choice = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        if encode is not None and body.get("return_token_ids"):
            choice |= {"token_ids": encode(text), "prompt_token_ids": encode(prompt)}
        choice |= {"index": 0, "finish_reason": finish or ("length" if cut else "stop")}
        return {"model": self.model, "choices": [choice], "system_fingerprint": "fp-1"}


async def send(
    writer: asyncio.StreamWriter, status: int, content: Any, more: dict[str, str] | None = None, cut: bool = False
) -> bool:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    fields = {"Content-Length": str(len(raw)), "Content-Type": "application/json", **(more or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + (raw[: len(raw) // 2] if cut else raw))
    await writer.drain()
    return not cut


@contextmanager
def serving(server: CompletionServer) -> Iterator[CompletionServer]:
    """Serve from a thread of this process."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512))
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
