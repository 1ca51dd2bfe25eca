#!/usr/bin/env bash
# Trace the engine (FP8, flex attention) under load with nsys, or with PyTorch's profiler if nsys is not installed.
# See --help for the flags. Name the interpreter that has torch by --python FILE (first) or by PYTHON in the environment.
set -euo pipefail

here="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)"
if [[ ! -d "$here/llmval_runners" ]]; then
  echo "refused: $here has no llmval_runners folder: run the script in the folder that \`llmval locate runners\` prints." >&2
  exit 2
fi
python="${PYTHON:-python3}"
if [[ "${1:-}" == --python ]]; then
  python="${2:?--python needs the path of an interpreter}"
  shift 2
fi
if ! command -v -- "$python" >/dev/null; then
  echo "refused: there is no $python: name the interpreter that has torch with --python FILE." >&2
  exit 2
fi
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m llmval_runners.tracing "$@"
