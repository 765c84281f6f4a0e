#!/bin/sh
# Create an environment with timm, open_clip and the same torch, for comparisons.
#
#     sh benchmarks/oracles.sh [FOLDER]          # default: .venv-oracles in the repository
#
# Packages are installed without dependencies, which would replace torch; torchvision needs the operators that
# benchmarks/oracle.py declares. percept imports none of them.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$here/.venv-oracles"}
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints-cpu.txt" "$@"; }
pip torch
pip --no-deps torchvision==0.28.0 timm open_clip_torch
pip numpy pillow safetensors huggingface_hub pyyaml ftfy regex tqdm
"$folder/bin/python" "$here/benchmarks/oracle.py" --check
