#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes src/NfcTables.inc: what normalization form C needs of Unicode 14.

Run with a Python whose unicodedata is version 14 (3.11), from this folder:
    python3 make_nfc_tables.py > src/NfcTables.inc
"""
import sys
import unicodedata

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version

decompositions, compositions, classes = [], [], []
for code in range(0x110000):
    if 0xD800 <= code < 0xE000 or 0xAC00 <= code <= 0xD7A3:
        continue
    char = chr(code)
    if combining := unicodedata.combining(char):
        if classes and classes[-1][1:] == [code - 1, combining]:
            classes[-1][1] = code
        else:
            classes.append([code, code, combining])
    mapping = unicodedata.decomposition(char)
    if not mapping or mapping.startswith("<"):
        continue
    parts = [int(part, 16) for part in mapping.split()]
    decompositions.append((code, parts[0], parts[1] if len(parts) > 1 else 0))
    if unicodedata.normalize("NFC", char) == char:
        compositions.append((parts[0], parts[1], code))


def write(name, rows, columns):
    print(f"constexpr uint32_t {name}[][{columns}] = {{")
    line = "   "
    for row in rows:
        entry = " {" + ", ".join(f"0x{value:X}" for value in row) + "},"
        if len(line) + len(entry) > 80:
            print(line)
            line = "   "
        line += entry
    print(line)
    print("};\n")


print("// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n//\n"
      "// Unicode 14, made by make_nfc_tables.py; do not edit.\n")
print("/// Character, its canonical decomposition: one or two characters.")
write("decompositions", decompositions, 3)
print("/// First and second character, what they compose to.")
write("compositions", sorted(compositions), 3)
print("/// First and last character, their canonical combining class.")
write("combiningClasses", classes, 3)
