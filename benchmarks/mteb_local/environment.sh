#!/bin/sh
# Create an environment with mteb and this package.
#
#     sh benchmarks/mteb_local/environment.sh [FOLDER]          # default: .venv-mteb in the repository
#
# mteb brings its own versions of many libraries. Its extra `image` asks for torchvision, which nothing here needs: plain pillow does.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-"$here/.venv-mteb"}
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
install() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints-cpu.txt" "$@"; }
install torch==2.13.0
install torch==2.13.0 mteb==2.26.24 pillow -e "$here"
"$folder/bin/python" -c "from percept.eval.mteb import register; print(register('nano'))"
