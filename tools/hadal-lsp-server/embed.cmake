# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# cmake -DIN=a.md;b.md -DOUT=x.inc -P embed.cmake: the files as one string of C++.
set(all)
foreach(file IN LISTS IN)
  file(READ ${file} text)
  string(APPEND all "${text}")
endforeach()
file(WRITE ${OUT} "R\"md(${all})md\"\n")
