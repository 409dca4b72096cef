"""Wrong YAML is one line with its line number; right YAML loses nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import ConfigError, PipelineError
from pipeline.workflow.config import load_config
from pipeline.workflow.yaml_text import parse_yaml, read_yaml

CONFIGS = sorted(Path("configs").glob("*.yaml"))
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


# Seen failing with: yaml.safe_load. The first two lost a half each; the bomb took minutes; 010 was 8.
@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("ppo: {a: 1}\nname: x\nppo: {b: 2}", 3, '"ppo" stands here and in line 1'),
        ("ppo:\n  kl_coef: 1\n  'kl_coef': 2", 3, '"kl_coef" stands here and in line 2'),
        ("a: {1: x, 0x1: y}", 1, '"1" stands here and in line 1'),
        ("<<: {a: 1}\n<<: {b: 1}", 2, '"<<" stands here and in line 1'),
        (BOMB, 6, "more than 100,000 values"),
        ("a: &x [*x]", 1, "contains itself"),
        ("a: &x {b: {c: *x}}", 1, "contains itself"),
        ("\n" + "[" * 100_000, 2, "more than 40 levels deep"),
        ("".join(f"{' ' * i}k:\n" for i in range(60)), 40, "levels deep"),
        ("a: " + "9" * 5000, 1, "cannot be read"),
        ("a: 99999999999999999999", 1, "beyond 64 bits"),
        ("revision: 0123456", 1, "would be read as octal; write it in quotes"),
        ("a: 12:30:45", 1, "to base 60; write it in quotes"),
        ("a: 1\n.nan: 1", 2, "a key is text, not '.nan', which is read as float"),
        ("a: {yes: 1}", 1, "not 'yes', which is read as bool; write it in quotes"),
        ("a: {~: 1}", 1, "which is read as null"),
        ("? \n: 1", 1, "not an empty one"),
        ("? [a, b]\n: 1", 1, "a mapping or a list, not a text"),
        ("a:\n\tb: 1", 2, "a tab, where YAML takes blanks only"),
        ("a: 1\nb: [1, 2\nc: 3", 3, "is not valid YAML"),
        ("a:\n  {old_share:0.3}", 2, "'old_share:0.3' lacks a blank after the colon: old_share: 0.3"),
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("a: 'x", 1, "is not valid YAML: found unexpected end of stream"),
        ("a: *nobody", 1, "undefined alias 'nobody'"),
        ("a: 1\n---\nb: 1", 2, "another document"),
        ("a: !!python/object/apply:os.system [ls]", 1, 'the tag "python/object/apply:os.system" is not read here'),
        ("a: !!set {x}", 1, 'the tag "set"'),
        ("a: !!int x", 1, "'x' cannot be read"),
        ("a: 1\nb: \x00", 2, "the character U+0000"),
        ("a: \ud800", 1, "the character U+D800"),
    ],
)
def test_a_mistake_is_one_line_with_its_number(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as err:
        parse_yaml(text, "x.yaml")
    assert str(err.value).startswith(f"x.yaml, line {line}: ")
    assert said in str(err.value)
    assert "\n" not in str(err.value)
    assert len(str(err.value)) < 300


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"name: x\ntask: \xff\xfe\n", "line 2: is not text in UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", "line 1: holds the character U+"),
        (b"\x80\x05\x95", "line 1: is not text in UTF-8"),
        (b"", "is empty or not a mapping"),
        (b"# nothing\n", "is empty or not a mapping"),
        (b"- name: x\n", "is empty or not a mapping"),
        (b"just words", "is empty or not a mapping"),
        (b"name: x\ntask: y\n" + b"#" * 1_000_001, "has more than 1,000,000 bytes"),
        (b"name: x\ntask: y\n7: z\n", "7 is no key: a key is text"),
        (b"name: x\ntask: y\nppo: {7: z}\n", "ppo.7 is no key: a key is text"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        load_config(path)
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path)


def test_what_is_right_is_read_as_it_was() -> None:
    for path in CONFIGS:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
    assert parse_yaml("a: &m {x: 1, y: 2}\nb:\n  <<: *m\n  x: 3", "x") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
    }
    # Numbers may be keys further down, where a config maps answers to words.
    assert parse_yaml("a: {choices: {0: a, 1: b}}", "x") == {"a": {"choices": {0: "a", 1: "b"}}}
    assert parse_yaml("a: 2024-01-31\nb: 1e-3\nc: .nan\nd: 0\ne: 0x10", "x")["a"] == "2024-01-31"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_writes_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("name: x\r\ntask: größer\r\n".encode(encoding))
    assert read_yaml(path) == {"name": "x", "task": "größer"}


# Damages every config of the repository in every way that hands and disks do. Seen failing with: yaml.safe_load,
# by RecursionError, ValueError and TypeError.
def damaged_configs(tries: int, seed: int) -> list[bytes]:
    draw = random.Random(seed)
    words = ["\t", "[", "{", "- ", ": ", "&a ", "*a", "!!int ", "\x00", "'", "|", "<<: ", "? ", "~", "[" * 3000]
    words += ["9" * 5000, "1e9999", ".nan", "0777", "2024-99-99", "%YAML 3\n", "---\n", "\u202e"]
    pieces = [b"\xff", *(word.encode() for word in words)]
    found: list[bytes] = []
    for i in range(tries):
        data = bytearray(CONFIGS[i % len(CONFIGS)].read_bytes())
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(5):
                case 0:
                    data[at:at] = draw.choice(pieces)
                case 1:
                    del data[at : at + draw.randint(1, 40)]
                case 2:
                    del data[at:]
                case 3:
                    lines = bytes(data).splitlines(keepends=True) or [b""]
                    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                    data = bytearray(b"".join(lines))
                case _ if at < len(data):
                    data[at] ^= 1 << draw.randrange(8)
                case _:
                    pass
        found.append(bytes(data))
    return found


def try_configs(directory: Path, tries: int, seed: int) -> tuple[int, int]:
    """(read, refused in one line); whatever else is raised fails the test."""
    path = directory / "x.yaml"
    refused: list[str] = []
    for data in damaged_configs(tries, seed):
        path.write_bytes(data)
        try:
            load_config(path)
        except PipelineError as err:
            refused.append(str(err))
    assert not [said for said in refused if "\n" in said or len(said) > 1000]
    return tries - len(refused), len(refused)


@pytest.mark.thorough
def test_no_damaged_config_is_a_traceback(tmp_path: Path) -> None:
    read, refused = try_configs(tmp_path, tries=200, seed=0)
    assert refused > 100
    assert read > 20


@pytest.mark.slow
def test_damaged_configs_campaign(tmp_path: Path) -> None:
    read, refused = try_configs(tmp_path, tries=5000, seed=1)
    assert read + refused == 5000
