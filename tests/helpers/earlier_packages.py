"""Earlier versions of the libraries, in a directory for PYTHONPATH: what users of a finished model may have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EARLIER = ["transformers==4.57.6", "peft==0.17.1", "tokenizers==0.22.1", "huggingface-hub==0.36.0"]


def install_earlier(packages: Path) -> Path:
    """Install them into ``packages``; skips the test where they cannot be had."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *EARLIER]
    if subprocess.run(pip, check=False, capture_output=True).returncode:
        pytest.skip("the earlier versions cannot be installed here")
    return packages
