"""Write ``pipeline/workflow/sections/trl_keys.py`` from the installed TRL and transformers: ``make generated``."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[2] / "pipeline" / "workflow" / "sections" / "trl_keys.py"
HEAD = '''"""The keys of TRL's and transformers' arguments: names, types and defaults, known without torch.

Written by ``make generated`` from the installed ones; a test compares them. Do not edit. They are inherited
from alone: methods of so many fields take a while to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
'''


@dataclasses.dataclass(frozen=True)
class TRLKey:
    """A key of TRL's arguments: its type as annotated in the table, and its default."""

    type: str
    default: Any


def keys_of(cls: Any) -> dict[str, TRLKey]:
    """The keys of one of TRL's argument classes."""
    hints = typing.get_type_hints(cls)
    found: dict[str, TRLKey] = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        made = field.default_factory is not dataclasses.MISSING
        default: Any = field.default_factory() if made else field.default
        found[field.name] = TRLKey(annotation(hints[field.name], field.metadata.get("choices")), default)
    return found


def annotation(hint: Any, choices: Any = None) -> str:
    """A type hint as source that needs no torch: enumerations are the texts that YAML has for them."""
    if choices is not None and hint is str:
        return f"Literal[{', '.join(repr(str(getattr(c, 'value', c))) for c in choices)}]"
    parts = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"Literal[{', '.join(repr(member.value) for member in hint)}]"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        names = any(isinstance(p, type) and issubclass(p, enum.Enum) for p in parts)
        # transformers writes "an enumeration or text" and takes the enumeration's texts alone.
        kept = [p for p in parts if not (names and p is str)]
        spelled = list(dict.fromkeys(annotation(p) for p in kept if p is not type(None)))
        return " | ".join(dict.fromkeys(spelled + (["None"] if type(None) in parts else [])))
    if typing.get_origin(hint) is typing.Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if hint is dict:
        return "dict[str, Any]"
    if parts:
        return f"{hint.__origin__.__name__}[{', '.join(annotation(p) for p in parts)}]"
    if hint in (int, float, str, bool):
        return hint.__name__
    return "Any" if hint is Any else "None"  # an object that no YAML holds


def source_of(name: str, base: str | None, keys: dict[str, TRLKey], inherited: dict[str, TRLKey]) -> str:
    """A dataclass of the keys that are not inherited as they are."""
    library = "transformers'" if base is None else "TRL's"
    lines = ["@dataclass(init=False, repr=False, eq=False)", f"class {name}{f'({base})' if base else ''}:"]
    lines.append(f'    """The keys of {library} ``{name}``."""\n')
    for key, trl in keys.items():
        if inherited.get(key) == trl:
            continue
        default = repr(trl.default)
        if isinstance(trl.default, list):
            default = f"field(default_factory={trl.type})"
        elif trl.type == "float":
            default = repr(float(trl.default))
        # A key of a subclass may have another type, which is what TRL does too.
        ignore = "  # pyright: ignore[reportIncompatibleVariableOverride]" if key in inherited else ""
        changed = key in inherited and inherited[key].type != trl.type
        lines.append(f"    {key}: {trl.type} = {default}{ignore if changed else ''}")
    return "\n".join(lines)


def write() -> None:
    """Write the table."""
    from transformers import TrainingArguments
    from trl import RewardConfig, SFTConfig
    from trl.experimental.ppo import PPOConfig

    base = keys_of(TrainingArguments)
    parts = [HEAD, source_of("TrainingArguments", None, base, {})]
    for cls in (SFTConfig, RewardConfig, PPOConfig):
        parts.append(source_of(cls.__name__, "TrainingArguments", keys_of(cls), base))
    TARGET.write_text("\n\n\n".join(parts) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(TARGET)], check=True)
