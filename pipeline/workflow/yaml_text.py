"""Read YAML strictly: every ambiguity is an error of one line, with its line number.

The YAML library silently drops the first of two equal keys, expands aliases without limit, and reads ``010`` as 8
and ``1:30`` as 90.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from pipeline.base.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Of a document, with its aliases expanded."""

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))
_OCTAL = re.compile(r"[-+]?0[0-7_]+")


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: it cannot be read, or is not plain YAML in UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read ({err.strerror}).") from err
    if len(data) > MAX_BYTES:
        raise ConfigError(str(path), f"is no config: it has more than {MAX_BYTES:,} bytes.")
    # Windows editors write UTF-16, or UTF-8 with a byte order mark.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as err:
        line = data[: err.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}", "is not text in UTF-8.", "Save it as UTF-8.") from err
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str, lines: bool = True) -> Any:
    """Parse mappings, lists, text, numbers, true, false and null. Dates are text.

    Args:
        where: the source, for messages.
        lines: whether messages name lines; false for a command line.
    Raises:
        ConfigError: it is not YAML, has a key twice, a key that is not text, an ambiguous number or tags, or is
            too deep or too large.
    """

    def wrong(line: int, what: str) -> ConfigError:
        return ConfigError(
            f"{where}, line {line}" if lines else where, what if lines else f"{text[:80]!r}: {what}"
        )

    loader: Any = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node)
        _check_keys(node, loader)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        raise wrong(mark.line + 1 if mark else 1, f"{_problem(err)}.") from err
    except yaml.reader.ReaderError as err:
        line = text.count("\n", 0, err.position) + 1
        code = err.character if isinstance(err.character, int) else ord(str(err.character)[:1] or "?")
        raise wrong(line, f"holds the character U+{code:04X}, which is no text.") from err
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without tags, ambiguous numbers and deep nesting."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            event = cast("Any", self).peek_event()
            raise _error(event.start_mark, f"more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if node.tag not in _TAGS:
            name = node.tag.removeprefix(_TAG)
            raise _error(node.start_mark, f'the tag "{name}" is not read here; write plain values')
        if isinstance(node, ScalarNode) and node.tag in (f"{_TAG}int", f"{_TAG}float"):
            _check_number(node)
        try:
            value: Any = cast("Any", super()).construct_object(node, deep)
        except (ValueError, LookupError, TypeError, ArithmeticError) as err:
            raise _error(node.start_mark, f"{str(cast('Any', node).value)[:40]!r} cannot be read") from err
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _error(node.start_mark, f"{str(cast('Any', node).value)[:40]} is beyond 64 bits")
        return value


# Dates stay text: a name or a revision may look like one.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _check_number(node: ScalarNode) -> None:
    text = str(node.value)
    if ":" in text:
        raise _error(node.start_mark, f"{text[:40]} would be read as a number to base 60; write it in quotes")
    if _OCTAL.fullmatch(text):
        raise _error(
            node.start_mark, f"{text[:40]} would be read as octal; write it in quotes, or without the leading 0"
        )


def _measure(root: Node) -> None:
    """Raise an error where aliases expand to too much, or contain themselves."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()
    stack = [root]
    while stack:
        node = stack[-1]
        children = _children(node)
        waiting = [c for c in children if id(c) not in sizes]
        if id(node) in sizes:
            stack.pop()
        elif waiting and id(node) not in inside:
            inside.add(id(node))
            looped = next((c for c in waiting if id(c) in inside), None)
            if looped is not None:
                raise _error(looped.start_mark, "what is named here contains itself")
            stack += waiting
        elif waiting:
            raise _error(waiting[0].start_mark, "what is named here contains itself")
        else:
            sizes[id(node)] = 1 + sum(sizes[id(c)] for c in children)
            if sizes[id(node)] > MAX_NODES:
                raise _error(node.start_mark, f"stands for more than {MAX_NODES:,} values, through its aliases")
            stack.pop()


def _check_keys(root: Node, loader: object) -> None:
    """Raise an error where a mapping has a key twice, or one that is not text."""
    seen: set[int] = set()
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        todo += _children(node)
        lines: dict[str, int] = {}
        for key, value in node.value if isinstance(node, MappingNode) else ():
            name = _key(key, loader)
            if ":" in name and _in_braces(node) and _is_bare(key) and _is_bare(value) and not value.value:
                first, _, rest = name.partition(":")
                raise _error(key.start_mark, f"{name!r} lacks a blank after the colon: {first}: {rest}")
            if name in lines:
                what = f'"{name}" stands here and in line {lines[name]}; only one of them would be read'
                raise _error(key.start_mark, what)
            lines[name] = key.start_mark.line + 1


def _in_braces(node: Node) -> bool:
    """Whether a mapping is written ``{a: 1}``."""
    return bool(cast("Any", node).flow_style)


def _is_bare(node: Node) -> bool:
    """Whether a value is no collection, and without quotes."""
    return isinstance(node, ScalarNode) and not cast("Any", node).style


def _key(node: Node, loader: Any) -> str:
    """The key as text: 1 and \"1\" are the same key of a config."""
    tag = node.tag.removeprefix(_TAG)
    if not isinstance(node, ScalarNode):
        raise _error(node.start_mark, "a key is a mapping or a list, not a text")
    if tag == "merge":
        return "<<"
    if tag in ("bool", "null") and node.value.lower() in ("true", "false", "null"):
        return node.value.lower()
    if tag == "float" and math.isfinite(number := loader.construct_object(node)):
        return str(number)
    if tag not in ("str", "int"):
        read = "an empty one" if not node.value else f"{node.value[:40]!r}, which is read as {tag}"
        raise _error(node.start_mark, f"a key is text, not {read}; write it in quotes")
    return str(loader.construct_object(node))


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, CollectionNode) else []


def _error(mark: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _problem(err: yaml.MarkedYAMLError) -> str:
    problem = str(err.problem or err.context or "is not YAML")
    if "'\\t'" in problem:
        return "a tab, where YAML takes blanks only"
    begins = f" in line {err.context_mark.line + 1}" if err.context_mark is not None else ""
    about = f" ({err.context}{begins})" if err.context and err.problem else ""
    return problem if type(err) is yaml.MarkedYAMLError else f"is not valid YAML: {problem}{about}"
