#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds and runs the examples as their users do, with a made-up model in place
# of one that hadalc compiled.
# usage: check-examples.sh CC CXX SOURCE_DIR RT_LIBRARY TEXT_LIBRARY PCRE2

set -eu
cc=$1 cxx=$2 source=$3 rt=$4 text=$5 pcre2=$6
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$cxx" -std=c++17 -O1 -fno-exceptions -fno-rtti -Dhadal_model=abyss_model \
  -I"$source/runtime/include" -c "$source/test/runtime/run/FakeProduct.cpp" \
  -o abyss.o
ar rc abyss.a abyss.o
cat > abyss.h <<'END'
#include "hadal_rt/abi.h"
#ifdef __cplusplus
extern "C" {
#endif
extern const hadal_rt_model_t abyss_model;
#ifdef __cplusplus
}
#endif
END
python3 "$source/test/runtime/run/check-run.py" --write-weights abyss.weights

"$cc" -std=c11 -O1 -Wall -Wextra -Werror -I. -I"$source/runtime/include" \
  "$source/examples/c/generate.c" abyss.a "$rt" -lpthread -lm -o generate
./generate 1 2 > ids
[ "$(wc -l < ids)" -eq 32 ]
# 1*(1+1) + 2*(2+1)
[ "$(head -n 1 ids)" -eq 8 ]
if ./generate 999999 2> error; then exit 1; fi
grep -q 'expected 0 .. 259' error

"$cxx" -std=c++17 -O1 -Wall -Wextra -Werror -I. -I"$source/runtime/include" \
  -I"$source/runtime/text/include" "$source/examples/cpp/chat.cpp" abyss.a \
  "$text" "$rt" "$pcre2" -lpthread -lm -o chat
./chat 'Hi' > answer
echo "examples: built and run"
