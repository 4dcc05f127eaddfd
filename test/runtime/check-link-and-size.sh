#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Links a C program with the runtime as a user would, with the C compiler and
# no C++ library, and checks that the runtime adds at most 150 KB to it.
# usage: check-link-and-size.sh CC SOURCE LIBRARY INCLUDE_DIR [CFLAG...]

set -eu
cc=$1 source=$2 library=$3 include=$4
shift 4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$cc" "$@" -std=c11 -Wall -Wextra -Werror -pedantic -O2 -I"$include" \
  "$source" "$library" -lpthread -lm -o "$folder/program"
"$folder/program"
if ldd "$folder/program" | grep -E 'libstdc\+\+|libc\+\+'; then
  echo "error: the program needs a C++ library" >&2
  exit 1
fi

echo 'int main(void) { return 0; }' > "$folder/empty.c"
"$cc" "$@" -O2 "$folder/empty.c" -o "$folder/empty"
strip "$folder/program" "$folder/empty"
loaded() { size -B "$1" | awk 'NR == 2 { print $1 + $2 }'; }
bytes=$(($(loaded "$folder/program") - $(loaded "$folder/empty")))
echo "the runtime and its caller take $bytes bytes of text and data"
[ "$bytes" -le 153600 ] || {
  echo "error: expected at most 153600" >&2
  exit 1
}
