#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds examples/bazel against what was installed, as a user would, and runs it.
"""Checks hadal_repository() and hadal_model() of bazel/. Skipped where there is no Bazel.

    check_bazel.py --build build --source .
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

BAZEL = shutil.which("bazel")

# Rules that Bazel 4 fetches from elsewhere: those of Debian's packages bazel-rules-java and bazel-rules-proto. Its bazel-rules-cc is of
# a later Bazel; the rules that Bazel has itself stand in for it.
RULES = Path("/usr/share/bazel/rules")
CC_RULES = ("cc_binary", "cc_import", "cc_library", "cc_proto_library", "cc_test", "cc_toolchain", "cc_toolchain_suite",
            "fdo_prefetch_hints", "fdo_profile", "objc_import", "objc_library")


def write_rules(folder):
    """Writes a stand-in of rules_cc; returns Bazel's options."""
    (folder / "cc").mkdir(parents=True)
    for name in ("WORKSPACE", "BUILD", "cc/BUILD"):
        (folder / name).write_text("")
    (folder / "cc/defs.bzl").write_text("".join(f"{name} = native.{name}\n" for name in CC_RULES))
    return [f"--override_repository=rules_cc={folder}", *(f"--override_repository=rules_{name}={RULES / name}" for name in ("java", "proto"))]


class Project:
    """A copy of examples/bazel, with a model and a program."""

    def __init__(self, folder, prefix, args):
        self.folder = folder
        self.start = [BAZEL, f"--output_user_root={folder.parent / 'bazel'}", "--max_idle_secs=20"]
        self.rules = write_rules(folder.with_name("rules"))
        shutil.copytree(args.source / "examples/bazel", folder)
        shutil.copy(args.source / "examples/c/generate.c", folder)
        (folder / "model").mkdir()
        for file in (args.source / "models/abyss-tiny").glob("*.*"):
            if file.is_file():
                shutil.copy(file, folder / "model")
        text = (folder / "WORKSPACE").read_text()
        text = text.replace('"/usr/share/hadal/bazel"', f'"{prefix}/share/hadal/bazel"').replace('prefix = "/usr"', f'prefix = "{prefix}"')
        (folder / "WORKSPACE").write_text(text)
        self.environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS")}

    def bazel(self, command, *arguments):
        return must_run([*self.start, command, *self.rules, *arguments], 300, cwd=self.folder, env=self.environment)

    def build(self):
        self.bazel("build", "--verbose_failures", "//:generate")
        return (self.folder / "bazel-bin/abyss.o").stat().st_mtime_ns


def check_run(project, args):
    project.build()
    expected = json.loads((args.source / "models/abyss-tiny/golden/greedy.json").read_text())
    out = project.bazel("run", "//:generate", "--", *map(str, expected["prompt"]))
    found = [int(word) for word in out.split() if word.isdigit()]
    if found != expected["tokens"][:32]:
        raise Failure(f"printed {out[:300]!r}, expected {harness.ids(expected['tokens'][:32])}")
    return "the golden tokens"


def check_rebuild(project):
    before = project.build()
    if project.build() != before:
        raise Failure("the model was compiled again, though nothing had changed")
    config = project.folder / "model/config.json"
    config.write_text(config.read_text() + "\n")
    if project.build() == before:
        raise Failure("the model was not compiled again after config.json had changed")
    return "only what has changed"


def check_errors(project):
    (project.folder / "model/config.json").write_text("{}")
    status, _, err = harness.run([*project.start, "build", *project.rules, "//:generate"], 300, cwd=project.folder, env=project.environment)
    if not status or "hadalc: error: " not in err or "config.json" not in err:
        raise Failure(f"expected hadalc's error, got exit status {status}: {err[-500:]}")
    return "hadalc's own line"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, type=Path)
    parser.add_argument("--source", required=True, type=Path)
    args = parser.parse_args()
    if not BAZEL or not all((RULES / name).exists() for name in ("java", "proto")):
        print("skipped: there is no Bazel with its rules; Debian has them in bazel-bootstrap, bazel-rules-java and bazel-rules-proto")
        return harness.SKIPPED
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as folder:
        folder = Path(folder).resolve()
        must_run(["cmake", "--install", args.build.resolve(), "--prefix", folder / "prefix"], 120)
        project = Project(folder / "project", folder / "prefix", args)
        try:
            return harness.run_checks([
                ("build and run", lambda: check_run(project, args)),
                ("rebuild", lambda: check_rebuild(project)),
                ("errors", lambda: check_errors(project)),
            ])
        finally:
            harness.run([*project.start, "shutdown"], 60, cwd=project.folder)


if __name__ == "__main__":
    sys.exit(main())
