#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes src/NfcTables.inc: what normalization form C needs of Unicode 9.

That is the version by which the `tokenizers` library normalizes (as of 0.23.3),
so the one that models have seen. Run with a Python whose unicodedata is version
14 (3.11), from this folder:
    python3 make_nfc_tables.py > src/NfcTables.inc
"""
import unicodedata

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version

# What Unicode 10 to 14 added: characters with a combining class, and the one
# with a decomposition. `tokenizers` leaves them where they stand.
LATER = """7FD 898-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1ACE 1DF6-1DFA A82C
10D24-10D27 10EAB-10EAC 10F46-10F50 10F82-10F85 11070 1133B 1145E 11839-1183A
11938 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97
16FF0-16FF1 1E130-1E136 1E2AE 1E2EC-1E2EF""".split()
LATER = {code for item in LATER
         for code in range(int(item.split("-")[0], 16),
                           int(item.split("-")[-1], 16) + 1)}

decompositions, compositions, classes = [], [], []
for code in range(0x110000):
    if 0xD800 <= code < 0xE000 or 0xAC00 <= code <= 0xD7A3 or code in LATER:
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
      "// Unicode 9, made by make_nfc_tables.py; do not edit.\n")
print("/// Character, its canonical decomposition: one or two characters.")
write("decompositions", decompositions, 3)
print("/// First and second character, what they compose to.")
write("compositions", sorted(compositions), 3)
print("/// First and last character, their canonical combining class.")
write("combiningClasses", classes, 3)
