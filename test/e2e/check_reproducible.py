#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checks that the same model gives the same bytes, and that a product and its weights file belong together.
"""Compiles a model twice, and tries products with weights that are missing, damaged or another model's.

    check_reproducible.py --hadalc build/bin/hadalc --hadal-run build/bin/hadal-run --model CASE --other CASE
"""
import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_refuse, must_run

TOKENS = ["--tokens", "1,2,3", "-n", "4", "--json"]


def tokens_of(out):
    return json.loads(out)["tokens"]


def hadalc(args, *arguments, **options):
    return must_run([args.hadalc, *arguments], 60, **options)


def same(a, b, what):
    a, b = Path(a).read_bytes(), Path(b).read_bytes()
    if a != b:
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        raise Failure(f"{what}: {len(a)} and {len(b)} bytes, first different at {at}: {a[at:at + 16]!r} and {b[at:at + 16]!r}")
    return len(a)


def check_twice(folder, args):
    """Other names, folders, ways to write the model's path, places of temporary files, and room for randomness."""
    first, second = folder / "a", folder / "a longer name" / "deep"
    # The folder's own name is the name of the model, which the product tells.
    moved = folder / "moved" / args.model.name
    shutil.copytree(args.model, moved)
    for place in (first, second, folder / "tmp"):
        place.mkdir(parents=True)
    sizes = []
    for emit, names in {"exe": ["{}", "{}.weights"], "obj": ["{}", "{}.weights"], "lib": ["{}.weights"]}.items():
        hadalc(args, args.model, "-o", first / emit, f"--emit={emit}")
        hadalc(args, os.path.relpath(moved, second), "-o", f"other-{emit}", f"--emit={emit}", cwd=second,
               env={**os.environ, "TMPDIR": str(folder / "tmp"), "LC_ALL": "C", "TZ": "Asia/Shanghai"})
        for name in names:
            size = same(first / name.format(emit), second / name.format(f"other-{emit}"), f"--emit={emit}, {name.format('OUT')}")
            sizes.append(f"{name.format(emit)} {size}")
    hadalc(args, args.model, "-o", first / "again", "--emit=lib")
    hadalc(args, args.model, "-o", second / "again", "--emit=lib")
    for suffix in (".a", ".so", ".h", ".weights"):
        sizes.append(f"again{suffix} {same(first / f'again{suffix}', second / f'again{suffix}', f'--emit=lib, OUT{suffix}')}")
    if left := os.listdir(folder / "tmp"):
        raise Failure(f"left in TMPDIR: {', '.join(left)}")
    return f"the same bytes: {', '.join(sizes)}"


def check_embedded(folder, args):
    hadalc(args, args.model, "-o", folder / "beside")
    expected = tokens_of(must_run([folder / "beside", *TOKENS], 60))
    hadalc(args, args.model, "-o", folder / "alone", "--embed-weights")
    if (folder / "alone.weights").exists():
        raise Failure("--embed-weights left a file of weights")
    (folder / "far").mkdir()
    (folder / "alone").rename(folder / "far" / "renamed")
    for command in ([folder / "far" / "renamed"], [args.hadal_run, folder / "far" / "renamed"]):
        if tokens_of(must_run([*command, *TOKENS], 60, cwd="/")) != expected:
            raise Failure("the tokens differ from those of a program with its weights beside it")
    return f"{(folder / 'far' / 'renamed').stat().st_size} bytes, alone in a folder, give the same tokens"


def check_weights(folder, args):
    hadalc(args, args.model, "-o", folder / "model")
    hadalc(args, args.other, "-o", folder / "other")
    program, weights = folder / "model", folder / "model.weights"
    sound = weights.read_bytes()
    lines = []

    def refuse(what, contents):
        if weights.is_symlink() or weights.exists():
            weights.unlink()
        if contents is not None:
            weights.write_bytes(contents)
        for command in ([program], [args.hadal_run, program]):
            line = must_refuse([*command, *TOKENS], 60)
            if str(weights) not in line:
                raise Failure(f"{what}: the message does not name the file: {line}")
        lines.append(f"    {what}: {line.replace(str(folder) + '/', '')}")

    refuse("missing", None)
    refuse("of another model", (folder / "other.weights").read_bytes())
    for what, size in (("empty", 0), ("cut in the magic", 5), ("cut in the header", 100), ("the header alone", 4096),
                       ("cut in the middle", len(sound) // 2), ("without the last byte", len(sound) - 1)):
        refuse(what, sound[:size])
    refuse("a byte too long", sound + b"\0")
    refuse("not a weights file", b"\x7fELF" + sound[4:])
    # One field of the header at a time is turned into a huge number: version, sections, hash, file and section sizes.
    for offset in range(8, 32 + 8 + 48, 4):
        if 40 <= offset < 72:
            continue  # The name of a section.
        refuse(f"header bytes {offset} .. {offset + 3} are 0xff", sound[:offset] + b"\xff" * 4 + sound[offset + 4:])
    weights.write_bytes(sound)
    must_run([program, *TOKENS], 60)
    must_refuse([program, *TOKENS, "--weights", folder / "other.weights"], 60)

    # The trailer of a program that carries its weights.
    hadalc(args, args.model, "-o", folder / "alone", "--embed-weights")
    alone = folder / "alone"
    whole = alone.read_bytes()
    for what, contents in (("embedded, without the last byte", whole[:-1]),
                           ("embedded, an offset beyond the end", whole[:-24] + b"\xff" * 8 + whole[-16:]),
                           ("embedded, a size beyond the end", whole[:-16] + b"\xff" * 8 + whole[-8:])):
        alone.write_bytes(contents)
        line = must_refuse([alone, *TOKENS], 60)
        lines.append(f"    {what}: {line.replace(str(folder) + '/', '')}")
    print("\n".join(lines))
    return f"{len(lines)} kinds of damage are refused with one line"


def check_outputs(folder, args):
    """Places that cannot be written are named, and keep what they had."""
    out = folder / "out"
    out.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "file").write_text("")
    (folder / "pipe.weights").mkdir()

    def limit_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    lines = []
    for what, path, options in (("a pipe", folder / "pipe", {}), ("a folder", out, {}),
                                ("in no folder", folder / "none" / "out", {}), ("in a file", folder / "file" / "out", {}),
                                ("no room", out / "model", {"preexec_fn": limit_size}),
                                ("no TMPDIR", out / "model", {"env": {**os.environ, "TMPDIR": str(folder / "none")}})):
        line = must_refuse([args.hadalc, args.model, "-o", path], 60, **options)
        lines.append(f"    {what}: {line.replace(str(folder) + '/', '')}")
        if left := os.listdir(out):
            raise Failure(f"{what}: left behind {', '.join(left)}")
    if not (folder / "pipe").is_fifo():
        raise Failure("the pipe is gone")
    left = sorted(set(os.listdir(folder)) - {"out", "pipe", "file", "pipe.weights"})
    if left:
        raise Failure(f"left behind {', '.join(left)}")
    print("\n".join(lines))
    return f"{len(lines)} kinds of places are refused with one line"


def check_manifest(folder, args):
    versions = {}
    for cpu in ("x86-64-v3", "x86-64-v4"):
        hadalc(args, args.model, "-o", folder / "program", f"--cpu={cpu}")
        manifests = [json.loads(hadalc(args, "--manifest", folder / name)) for name in ("program", "program.weights")]
        if manifests[0] != manifests[1]:
            raise Failure("the manifests of a program and of its weights differ")
        if not manifests[0]["passes"].startswith("deepseek-"):
            raise Failure(f"the manifest does not name the passes: {manifests[0]['passes']!r}")
        target = manifests[0]["target"]
        if target["cpu"] != cpu:
            raise Failure(f"the manifest says cpu {target['cpu']!r}, expected {cpu!r}")
        versions[cpu] = json.dumps(target)
    hadalc(args, args.model, "-o", folder / "lib", "--emit=lib")
    for name in ("lib", "lib.a", "lib.so", "lib.weights"):
        json.loads(hadalc(args, "--manifest", folder / name))
    for path in (args.model / "config.json", folder / "no-such-product", folder):
        must_refuse([args.hadalc, "--manifest", path], 60)
    return versions["x86-64-v4"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=harness.existing_file)
    parser.add_argument("--hadal-run", required=True, type=harness.existing_file)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--other", required=True, type=Path, help="a model of another shape")
    args = parser.parse_args()
    args.model, args.other = args.model.resolve(), args.other.resolve()

    def in_folder(check):
        def run():
            with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
                return check(Path(folder), args)

        return run

    return harness.run_checks([("twice", in_folder(check_twice)), ("embedded weights", in_folder(check_embedded)),
                               ("wrong weights", in_folder(check_weights)),
                               ("outputs", in_folder(check_outputs)), ("manifest", in_folder(check_manifest))])


if __name__ == "__main__":
    sys.exit(main())
