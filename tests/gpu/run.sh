#!/usr/bin/env bash
# For one card, in at most nine minutes: the GPU tests, and PPO and sampling against TRL and transformers.
#   tests/gpu/run.sh                        one JSON file: $OUT, or gpu.json in it if it is a directory (build/gpu.json)
#   tests/gpu/run.sh --device cpu --tiny    the same steps on a CPU with tiny shapes, to try the script
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python}" -m tests.gpu.measure "$@"
