#!/usr/bin/env bash
# Generates the Python modules of every .proto beside it. They are committed, so run this only after changing a .proto.
# Usage: deploy/protos.sh [FOLDER]   (writes below FOLDER instead of the checkout)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.}
bin=.venv/bin
mapfile -t all < <(git ls-files --cached --others --exclude-standard '*.proto')
mapfile -t services < <(grep -l '^service ' "${all[@]}")
generate=("$bin/python" -m grpc_tools.protoc -I. "--plugin=protoc-gen-mypy=$bin/protoc-gen-mypy"
  "--plugin=protoc-gen-mypy_grpc=$bin/protoc-gen-mypy_grpc")
"${generate[@]}" "--python_out=$out" "--mypy_out=quiet:$out" "${all[@]}"
"${generate[@]}" "--grpc_python_out=$out" "--mypy_grpc_out=quiet:$out" "${services[@]}"
