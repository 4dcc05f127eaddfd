#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# What a reduced module must keep: exits with 1 if it is there.
grep -q deepseek.swiglu "$1" && exit 1
exit 0
