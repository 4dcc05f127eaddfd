# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares rows of two files of numbers, as far as both go.

    compare-rows.py FILE FILE same,different,...
"""
import sys

first, second = (open(path).read().splitlines() for path in sys.argv[1:3])
for i, expected in enumerate(sys.argv[3].split(",")):
    found = "same" if first[i] == second[i] else "different"
    assert found == expected, (i, found, first[i], second[i])
