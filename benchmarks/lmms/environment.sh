#!/bin/sh
# Create an environment with lmms-eval and this package.
#
#     sh benchmarks/lmms/environment.sh [FOLDER]          # default: .venv-lmms in the repository
#
# lmms-eval brings its own versions of many libraries, and torchvision, which it does not need and whose CPU build does not load.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-"$here/.venv-lmms"}
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip "$@"; }
install() { pip install --quiet --disable-pip-version-check -c "$here/constraints-cpu.txt" "$@"; }
install torch==2.13.0
install torch==2.13.0 lmms-eval==0.7.3
pip uninstall --quiet --yes torchvision
install torch==2.13.0 'filelock<4' -e "$here[eval]"
"$folder/bin/python" -c "from percept.eval.vlm.lmms import manifest; print(manifest)"
