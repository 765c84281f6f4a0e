#!/bin/sh
# Make the environment of the models that ours are compared with: timm and open_clip beside the same torch.
#
#     sh benchmarks/oracles.sh [FOLDER]          # .venv-oracles beside this folder if none is given
#
# They go in without their dependencies, because those would pull in another torch; torchvision needs a shim that is run
# first, see benchmarks/oracle.py. Nothing of it is imported by percept.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$here/.venv-oracles"}
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints-cpu.txt" "$@"; }
pip torch
pip --no-deps torchvision==0.28.0 timm open_clip_torch
pip numpy pillow safetensors huggingface_hub pyyaml ftfy regex tqdm
"$folder/bin/python" "$here/benchmarks/oracle.py" --check
