#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Completes command lines in bash, and reads every man page, as their users would.
"""Checks what scripts/make-completions wrote.

    check_completions.py --share build/share --hadalc build/bin/hadalc
"""
import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Words of a command line, of which the last is completed; what must be offered, and nothing else if it is in a set.
CASES = [
    (["hadalc", "--em"], {"--embed-weights", "--emit="}),
    (["hadalc", "--emit", "=", "l"], {"lib", "llvm"}),
    (["hadalc", "--emit", "="], ["exe", "obj"]),
    (["hadalc", "--weights", "no"], {"none"}),
    (["hadalc", "--lora", "=", "ada"], {"adapter"}),
    (["hadalc", "model", "-"], ["--depfile=", "--manifest", "--json", "-o"]),
    (["hadalc", "mo"], {"model"}),
    (["hadal-run", "out", "--te"], {"--temperature"}),
    (["hadal-run", "out", "--se"], {"--seed"}),
    (["hadal-run", "out", "--weights", "mo"], {"model"}),
    (["hadal-bench", "out", "--p"], {"--profile"}),
    (["hadal-eval", "out", "--ag"], {"--against"}),
    (["hadal-diff", "a", "b", "--to"], {"--tokens", "--tolerance"}),
    (["hadal-advise", "--mac"], {"--machine="}),
    (["hadal-advise", "--task", "=", "co"], {"code"}),
    (["hadal-translate", "--import-"], {"--import-hf", "--import-gguf", "--import-onnx"}),
    (["hadal-opt", "--deepseek-ab"], {"--deepseek-absorb-latent-attention"}),
]


def run(command, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def complete(share, words, folder):
    array = " ".join(f"'{word}'" for word in words)
    script = (f"source {share}/bash/{words[0]}; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; "
              f"$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = run(["bash", "-c", script], cwd=folder)
    return set(done.stdout.split()), done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--share", required=True, type=Path)
    parser.add_argument("--hadalc", required=True, type=Path)
    args = parser.parse_args()
    args.share = args.share.resolve()
    failures = []
    with tempfile.TemporaryDirectory(prefix="hadal-") as folder:
        for name in ("model", "adapter"):
            (Path(folder) / name).mkdir()
        for words, expected in CASES:
            found, err = complete(args.share, words, folder)
            if err or (found != expected if isinstance(expected, set) else not set(expected) <= found):
                failures.append(f"{' '.join(words)}: offered {sorted(found)}, expected {sorted(expected)} {err.strip()}")
    # Each option that hadalc takes is there: those it knows, it takes.
    for word in (args.share / "bash" / "hadalc").read_text().split():
        if re.fullmatch(r"--[a-z-]+=?", word):
            err = run([args.hadalc, word + ("x" if word.endswith("=") else "")]).stderr
            if "unknown flag" in err:
                failures.append(f"hadalc does not know {word}")
    for page in sorted((args.share / "man").glob("*.1.gz")):
        if shutil.which("mandoc"):
            done = run(["mandoc", "-T", "lint", "-W", "warning", page])
            problems = done.stdout
        elif shutil.which("man"):
            problems = run(["man", "--warnings", "-E", "UTF-8", "-l", page]).stderr
        else:
            continue
        if problems.strip():
            failures.append(f"{page.name}: {problems.strip().splitlines()[0]}")
    for words, expected in CASES:
        # The shells' own completion, where they are; they offer files, too, and zsh is asked for the options alone.
        line, options = " ".join(words), {word.rstrip("=") for word in expected if word.startswith("--")}
        if not options or len(words) > 3:
            continue
        if shutil.which("fish"):
            done = run(["fish", "--no-config", "-c", f"source {args.share}/fish/{words[0]}.fish; complete -C '{line}'"])
            found = {word.split("\t")[0].rstrip("=") for word in done.stdout.splitlines()}
            if done.stderr or not options <= found:
                failures.append(f"fish, {line}: offered {sorted(found)}, expected {sorted(options)} {done.stderr.strip()}")
        if shutil.which("zsh"):
            done = run(["zsh", "-f", "-c", f"fpath=({args.share}/zsh $fpath); autoload -Uz compinit; compinit -u -D; "
                        f"_arguments() {{ print -rl -- \"$@\" }}; $_comps[{words[0]}]"])
            found = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", done.stdout))
            if done.stderr or not options <= found:
                failures.append(f"zsh, {words[0]}: knows {sorted(found)}, expected {sorted(options)} {done.stderr.strip()}")
    for shell in ("zsh", "fish"):
        if shutil.which(shell):
            for file in sorted((args.share / shell).iterdir()):
                done = run([shell, "-n", file])
                if done.returncode or done.stderr:
                    failures.append(f"{file.name}: {done.stderr.strip()}")
    for failure in failures:
        print(f"FAIL {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
