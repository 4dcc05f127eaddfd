# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prints what hadal-eval says of files whose third line is no question.

usage: bad-choices.py EXITS OUT FOLDER
"""
import json
import subprocess
import sys

exits, out, folder = sys.argv[1:]


def question(**members):
    return json.dumps({"context": "She said: caf", "choices": [" x", " y"], "answer": 0} | members)


for line in (
        '{"context": "a", choices: []}',
        r'{"context": "\ud800", "choices": ["b", "c"], "answer": 0}',
        "[1, 2]",
        question(context=None),
        # Deeper than a stack is.
        question(context=0).replace("0", "[" * 1000000 + "]" * 1000000, 1),
        '{"context": "a", "answer": 0}',
        question(choices=["b"]),
        question(choices=["b", ""]),
        question(choices=["b", 7]),
        question(answer=None),
        question(answer=2),
        question(answer=-1),
        question(answer=0.0),
        question(answer="0"),
        question(choices=[" a", "e"]),
        question(context="a b" * 3000),
):
    path = f"{folder}/bad.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{question()}\n\n{line}\n")
    sys.stdout.write(subprocess.run([sys.executable, exits, "1", "hadal-eval", out, "--choices", path], check=True,
                                    capture_output=True, text=True).stdout)
