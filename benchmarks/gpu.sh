#!/usr/bin/env bash
# Prepares a machine with a GPU that reaches no package registry, and runs a command there.
#
#     benchmarks/gpu.sh python benchmarks/gpu.py
#     benchmarks/gpu.sh python -m pytest -m gpu
#     benchmarks/gpu.sh                            # prepares only; . "$GPU_VENV/bin/activate" enters
#
# The machine has Python >= 3.10 with torch, torchvision, pytorch-lightning, timm, scikit-learn and the other packages
# of an image for deep learning, and pip. What it lacks of setup.cfg's requirements is brought along as wheels in
# benchmarks/wheels/, which git ignores. They are made where a registry is reached:
#
#     benchmarks/gpu.sh --download                 # for Python 3.12; PYTHONS="3.11 3.12" for both
#
# which runs, for each Python,
#
#     pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#         --platform manylinux_2_28_x86_64 ... --dest benchmarks/wheels NAME ...
#
# --no-deps, since torch would otherwise come along: the list below names what each of them needs. Of these soundfile
# has libsndfile in its wheel for manylinux, and cffi, soxr and it are compiled: cffi for one version of Python (cp312),
# soxr for 3.12 and later (cp312-abi3) or for one before; the rest is pure Python. tokenizers, safetensors and pyarrow
# are compiled too and large, and images for deep learning have them. lightly is a peer: without it, it is not compared.
#
# Everything goes into a virtual environment ($GPU_VENV, by default in the temporary folder), which sees the packages of
# the python3 that is first on PATH; that one stays as it is. Fashion-MNIST comes along if benchmarks/wheels/ holds the
# four files *-ubyte.gz of it (30 MB); `gpu.py learning` then takes it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheels=benchmarks/wheels
there="torch torchvision pytorch-lightning torchmetrics timm safetensors tokenizers pyarrow filelock numpy pillow"
there="$there scikit-learn matplotlib pyyaml"
needed="jsonargparse docstring-parser typeshed-client platformdirs soundfile cffi pycparser soxr charset-normalizer"
for_tests="pytest pytest-xdist execnet iniconfig pluggy packaging"
for_build="setuptools"
peers="lightly"

if [[ ${1:-} == --download ]]; then
    for version in ${PYTHONS:-3.12}; do
        platforms=()
        for glibc in 34 31 28 27 24 17 12 5; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
        # shellcheck disable=SC2086
        pip download --no-deps --only-binary=:all: --python-version "$version" --implementation cp "${platforms[@]}" \
            --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$wheels" \
            $needed $for_tests $for_build $peers
    done
    exit
fi

export GPU_VENV=${GPU_VENV:-${TMPDIR:-/tmp}/ssl-lightning-gpu}
if [[ ! -x $GPU_VENV/bin/python ]]; then
    python3 -m venv --without-pip "$GPU_VENV"
    # Of a python3 that is itself in a virtual environment, --system-site-packages would not show the packages.
    own=$("$GPU_VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    python3 -c 'import site; print("\n".join(site.getsitepackages()))' > "$own/machine.pth"
fi

pip() {
    "$GPU_VENV/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}

# What is there stays; of what is not there, the wheels that there are.
missing=$("$GPU_VENV/bin/python" - $wheels $there $needed $for_tests $for_build $peers <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LEAST = {"setuptools": 77, "jsonargparse": 4}  # major versions that setup.cfg and pyproject.toml ask for
folder, *names = sys.argv[1:]
carried = {path.name.split("-")[0].lower().replace("_", "-") for path in Path(folder).glob("*.whl")}
for name in names:
    try:
        enough = int(version(name).split(".")[0]) >= LEAST.get(name, 0)
    except PackageNotFoundError:
        enough = False
    if enough:
        continue
    if name in carried:
        print(name)
    else:
        print(f"{name} is neither installed nor in {folder}: see the head of gpu.sh.", file=sys.stderr)
PYTHON
)
# shellcheck disable=SC2086
[[ -z $missing ]] || pip install --no-index --find-links "$wheels" --no-deps $missing
pip install --no-index --no-deps --no-build-isolation -e .

if compgen -G "$wheels/*-ubyte.gz" > /dev/null && [[ -z ${SSL_LIGHTNING_DATA:-} ]]; then
    export SSL_LIGHTNING_DATA=$GPU_VENV/data
    raw=$SSL_LIGHTNING_DATA/fashion_mnist/FashionMNIST/raw
    mkdir -p "$raw"
    for file in "$wheels"/*-ubyte.gz; do gunzip -c "$file" > "$raw/$(basename "$file" .gz)"; done
fi

export PATH=$GPU_VENV/bin:$PATH VIRTUAL_ENV=$GPU_VENV
[[ $# -eq 0 ]] || exec "$@"
