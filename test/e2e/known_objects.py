#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# So that the compiler can be built as a part of another project without compiling all of it a second time.
"""A launcher of compilers: an object that a build has made by the same command is copied from there.

    HADAL_KNOWN_OBJECTS=known.json known_objects.py clang++ ... -o x.o -c x.cpp

known.json is what write_known() makes. A command that is not known there is an error: in the other project, Hadal would be compiled
otherwise than alone.
"""
import json
import os
import shlex
import shutil
import sys
from pathlib import Path


def normalize(words, build, top):
    """A command whose paths are those of any build: `build` is Hadal's binary folder, `top` the one that commands run in."""
    prefix = "" if build == top else os.path.relpath(build, top) + "/"
    result, words = [], iter(words)
    for word in words:
        if word in ("-MT", "-MF"):  # Where the dependencies go, which compile_commands.json leaves out.
            next(words)
        elif word == "-o":
            result += [word, next(words).removeprefix(prefix)]
        elif word != "-MD":
            result.append(word.replace(str(build), "<build>"))
    return " ".join(result)


def write_known(path, build, other):
    """Writes to `path` what was compiled in `build`, for a project whose binary folder of Hadal is `other`."""
    known = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        known[normalize(words, build, build)] = str(build / words[words.index("-o") + 1])
    path.write_text(json.dumps({"build": str(other), "objects": known}))


def main():
    known = json.loads(Path(os.environ["HADAL_KNOWN_OBJECTS"]).read_text())
    command = sys.argv[1:]
    name = normalize(command, Path(known["build"]), Path.cwd())
    if not Path(known["objects"].get(name, "none")).is_file():
        print(f"known_objects.py: the build has no object of this command: {name}", file=sys.stderr)
        return 1
    output = command[command.index("-o") + 1]
    shutil.copyfile(known["objects"][name], output)
    if "-MF" in command:
        Path(command[command.index("-MF") + 1]).write_text(f"{output}:\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
