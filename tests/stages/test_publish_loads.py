"""From a published name alone: what others' libraries, of other versions and languages, read from the double."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.store.store import Store
from tests.helpers.earlier_packages import install_earlier
from tests.helpers.free_port import free_port
from tests.helpers.hub_double import Hub, hub
from tests.helpers.hub_repository import Repository, is_lfs, pointer
from tests.stages.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def root(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published") / "data"
    shutil.copytree(finished.root / "data", root, ignore=shutil.ignore_patterns("mini-report", "mini-rollouts"))
    main(["data", "relocate", "--root", str(root)])
    assert main(["merge", "mini-reward", "--root", str(root)]) == 0
    return root


def environment(server: Hub, home: Path, **more: str) -> dict[str, str]:
    """A user's: their own cache, and this Hub, which has no server for Xet's chunks."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return env | {
        "HF_ENDPOINT": server.url,
        "HF_TOKEN": "hf_right",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }


def publish(server: Hub, root: Path, home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "publish",
        "mini-policy",
        "--repo",
        "org/mini",
        "--root",
        str(root),
    ]
    env = environment(server, home)
    return subprocess.Popen(
        [*command, *arguments], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A double that the command itself has published to, gate and all."""
    with hub() as running:
        running.tokens = {"hf_right"}  # the JavaScript client takes no other form
        done = publish(running, root, tmp_path_factory.mktemp("home"))
        out, err = done.communicate(timeout=500)
        assert done.returncode == 0, err
        assert "read again by a fresh process: 4 models" in out
        yield running


def run(code: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_readme_alone_is_enough(server: Hub, root: Path, tmp_path: Path):
    """With transformers 4.57 and peft 0.17, which know nothing of this package: the local adapter's text."""
    env = environment(server, tmp_path / "home", PYTHONPATH=str(install_earlier(tmp_path / "packages")))
    read = (
        "from huggingface_hub import hf_hub_download\nprint(open(hf_hub_download('org/mini', 'README.md')).read())"
    )
    (code,) = re.findall(r"```python\n(.*?)```", run(read, env), re.DOTALL)
    assert "org/mini" in code
    seeded = "import torch, transformers\ntorch.manual_seed(3)\nprint(transformers.__version__)\n"
    theirs = run(seeded + code.replace("Your prompt", "This film was"), env).splitlines()
    local = str(Store(root).resolve("mini-policy").path)
    ours = run(seeded + code.replace("Your prompt", "This film was").replace("org/mini", local), dict(os.environ))
    assert theirs[0] == "4.57.6" != ours.splitlines()[0]
    assert theirs[1:] == ours.splitlines()[1:]


def test_load_dataset_by_name_and_tag(server: Hub, root: Path, tmp_path: Path):
    code = """
from datasets import load_dataset
import json
rows = load_dataset("org/mini-preferences", revision="v000001")
votes = load_dataset("org/mini-preferences", "votes", split="train")
print(json.dumps([{k: len(v) for k, v in rows.items()}, len(votes), rows["train"][0]]))
"""
    counts, votes, first = json.loads(run(code, environment(server, tmp_path)).splitlines()[-1])
    version = Store(root).resolve("mini-preferences")
    assert counts == {"train": version.splits["train"], "test": version.splits["test"]}
    assert (votes, first) == (version.splits["votes/train"], version.rows("train")[0])


def state(server: Hub) -> dict[str, Any]:
    """Head and tags of all repositories; a commit's id is a digest of its files."""
    return {
        name: (kept.head, kept.tags)
        for name, kept in server.repos.items()
        if isinstance(kept, Repository) and "from-js" not in name
    }


@pytest.mark.parametrize("moment", ["PUT /lfs/", "POST /api/models/org/mini-reward/commit", "HEAD /org/mini/"])
def test_a_process_that_is_killed_goes_on_where_it_was(moment: str, server: Hub, root: Path, tmp_path: Path):
    """SIGKILL while it waits for the Hub's answer to such a request; then the same command once more."""
    with hub() as other:
        started: list[subprocess.Popen[str]] = []

        def kill(request: str) -> None:
            if request.startswith(moment) and not killed.is_set():
                killed.set()
                started[0].send_signal(signal.SIGKILL)
                started[0].wait()

        killed, other.before = threading.Event(), kill
        started.append(publish(other, root, tmp_path / "home"))
        started[0].communicate(timeout=500)
        assert started[0].returncode == -signal.SIGKILL
        assert not any(tags for _, tags in state(other).values())
        again = publish(other, root, tmp_path / "home")
        _, err = again.communicate(timeout=500)
        assert again.returncode == 0, err
        assert state(other) == state(server)


JAVASCRIPT = """
import { createRepo, downloadFile, listFiles, uploadFiles } from "@huggingface/hub";
const [hubUrl] = process.argv.slice(2), accessToken = "hf_right";
const files = [];
const at = { repo: "org/mini", revision: "v000001", hubUrl, accessToken };
for await (const file of listFiles({ ...at, recursive: true })) files.push([file.path, file.size]);
const get = async (path) =>
  Buffer.from(await (await downloadFile({ ...at, path, xet: false })).arrayBuffer()).toString("base64");
const weights = await get("adapter_model.safetensors"), config = await get("adapter_config.json");
const theirs = { type: "model", name: "org/from-js" };
await createRepo({ repo: theirs, private: true, hubUrl, accessToken });
await uploadFiles({ repo: theirs, hubUrl, accessToken, useXet: false, commitTitle: "from JavaScript", files: [
  { path: "model.safetensors", content: new Blob([Buffer.from(weights, "base64"), "more"]) },
  { path: "config.json", content: new Blob(["{}"]) },
] });
console.log(JSON.stringify({ files, weights, config }));
"""


def test_the_javascript_client(server: Hub, root: Path, tmp_path: Path):
    import base64

    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@huggingface/hub@2.17"]
    if subprocess.run(install, cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip("@huggingface/hub cannot be installed here")
    (tmp_path / "client.mjs").write_text(JAVASCRIPT)
    done = subprocess.run(
        ["node", "client.mjs", server.url], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    at = server.at("models/org/mini", "v000001")
    assert at is not None
    assert dict(seen["files"]) == {path: len(data) for path, data in at[1].items()}
    for key, path in {"weights": "adapter_model.safetensors", "config": "adapter_config.json"}.items():
        assert base64.b64decode(seen[key]) == at[1][path]
    kept = server.repos["models/org/from-js"]
    assert isinstance(kept, Repository)
    _, title, files = kept.commits[-1]
    assert title == "from JavaScript"
    assert files["model.safetensors"] == at[1]["adapter_model.safetensors"] + b"more"
    assert kept.private


def test_git_clones_what_was_published(server: Hub, tmp_path: Path):
    """Files that are LFS objects come as git's pointers, as from the Hub where git-lfs is not installed."""
    url = server.url.replace("://", "://user:hf_right@") + "/org/mini"
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    command = ["git", "clone", "--quiet", "--branch", "v000001", url, str(tmp_path / "clone")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    at = server.at("models/org/mini", "v000001")
    assert at is not None
    for path, data in at[1].items():
        expected = pointer(data) if is_lfs(path, len(data)) else data
        assert (tmp_path / "clone" / path).read_bytes() == expected
    log = ["git", "-C", str(tmp_path / "clone"), "log", "--format=%H %s"]
    lines = subprocess.run(log, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line[41:] for line in lines] == ["rlhf-pipeline: mini-policy@v000001", "initial commit"]
    assert lines[0][:40] == at[0]


OLAH = """[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{root}/cache"
mirror-netloc = "127.0.0.1:{port}"
mirror-lfs-netloc = "127.0.0.1:{port}"
mirrors-path = ["{root}/mirrors"]
[accessibility]
offline = true
"""
READ_BY_TAG = """
import hashlib, json
from datasets import load_dataset
from huggingface_hub import list_repo_refs, snapshot_download
from pathlib import Path
from transformers import AutoModelForCausalLM

at = Path(snapshot_download("org/mini", revision="v000001"))
files = {p.relative_to(at).as_posix(): p for p in at.rglob("*") if p.is_file()}
digests = {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in files.items()}
tags = {t.name: t.target_commit for t in list_repo_refs("org/mini").tags}
# Not a tokenizer: transformers lists a directory of templates, and where there is none olah answers 401, not 404.
AutoModelForCausalLM.from_pretrained("org/mini", revision="v000001")
rows = load_dataset("org/mini-preferences", revision="v000001")
print(json.dumps([digests, at.name, tags, {k: len(v) for k, v in rows.items()}]))
"""


@pytest.fixture
def olah(server: Hub, tmp_path: Path) -> Iterator[str]:
    """The address of a mirror that serves clones of what was published."""
    if (command := shutil.which("olah-cli")) is None:
        pytest.skip("no olah-cli here: pip install olah==0.5.4 in an environment of its own, and add it to PATH")
    for name in server.repos:
        kind, _, repo = name.partition("/")
        address = (
            server.url.replace("://", "://user:hf_right@") + f"/{'datasets/' if kind == 'datasets' else ''}{repo}"
        )
        clone = tmp_path / "mirrors" / kind / repo
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
        subprocess.run(["git", "clone", "--quiet", address, str(clone)], env=env, check=True)
        for oid, data in server.objects.items():
            kept = clone / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
    port = free_port()
    (tmp_path / "olah.toml").write_text(OLAH.format(port=port, root=tmp_path))
    arguments = [command, "-c", str(tmp_path / "olah.toml"), "--log-path", str(tmp_path / "logs")]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with (tmp_path / "olah.log").open("w") as log:
        running = subprocess.Popen(arguments, env=env, cwd=tmp_path, stdout=log, stderr=log)
    try:
        while running.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        assert running.poll() is None, (tmp_path / "olah.log").read_text()[-2000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


def test_another_server_gives_the_same_by_tag(server: Hub, root: Path, olah: str, tmp_path: Path):
    """Olah, which nobody here wrote, answers from git's own tags, commits and pointers."""
    env = environment(server, tmp_path / "home", HF_ENDPOINT=olah, HF_HUB_DISABLE_TELEMETRY="1")
    digests, commit, tags, counts = json.loads(run(READ_BY_TAG, env).splitlines()[-1])
    at = server.at("models/org/mini", "v000001")
    assert at is not None
    assert digests == {path: hashlib.sha256(data).hexdigest() for path, data in at[1].items()}
    assert (commit, tags) == (at[0], {"v000001": at[0]})
    version = Store(root).resolve("mini-preferences")
    assert counts == {"train": version.splits["train"], "test": version.splits["test"]}
