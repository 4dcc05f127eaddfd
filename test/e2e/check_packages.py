#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Makes the packages of a build, looks into them, and uses the archives. scripts/package-test installs the others in a fresh Debian.
"""Checks what cpack makes.

    check_packages.py --build build --model models/abyss-tiny
"""
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import harness
from harness import Failure, must_run

FILES = {"hadal": ["usr/bin/hadalc", "usr/bin/hadal-run", "usr/share/man/man1/hadalc.1.gz",
                   "usr/share/bash-completion/completions/hadalc", "usr/share/doc/hadal/copyright"],
         "libhadal-dev": ["usr/lib/hadal/libhadal_rt.a", "usr/lib/hadal/libhadal_text.a", "usr/include/hadal_rt/hadal_rt.h",
                          "usr/share/hadal/runtime/src/Session.cpp",
                          "usr/lib/cmake/Hadal/HadalConfig.cmake", "usr/lib/pkgconfig/hadal_rt.pc"]}


def check_debian(build, work):
    must_run(["cpack", "--config", build / "CPackConfig.cmake", "-G", "DEB", "-B", work], 300)
    root = work / "root"
    sizes = []
    for name, files in FILES.items():
        packages = list(work.glob(f"{name}_*.deb"))
        if len(packages) != 1:
            raise Failure(f"made {len(packages)} packages {name}")
        must_run(["dpkg-deb", "-x", packages[0], root], 60)
        missing = [file for file in files if not (root / file).is_file()]
        if missing:
            raise Failure(f"{name} has no {', '.join(missing)}")
        sizes.append(f"{name} {packages[0].stat().st_size / 1e6:.1f} MB")
    depends = must_run(["dpkg-deb", "-f", next(work.glob("hadal_*.deb")), "Depends"], 60)
    for needed in ("libmlir-22", "libllvm22", "libstdc++6", "libhadal-dev (="):
        if needed not in depends:
            raise Failure(f"hadal does not depend on {needed}, only on {depends.strip()}")
    version = must_run([root / "usr/bin/hadalc", "--version"], 60).strip()
    return f"{', '.join(sizes)}; {version}"


def check_archives(build, work, model):
    """The compiler and what programs are built with in an archive each; unpacked into one folder anywhere, they work."""
    must_run(["cpack", "--config", build / "CPackConfig.cmake", "-G", "TZST", "-B", work / "archives"], 300)
    root = work / "unpacked"
    root.mkdir()
    sizes = []
    for part, files in zip(("compiler", "runtime"), FILES.values()):
        archives = list((work / "archives").glob(f"hadal-*-{part}.tar.zst"))
        if len(archives) != 1:
            raise Failure(f"made {len(archives)} archives of the {part}")
        names = must_run(["cmake", "-E", "tar", "tf", archives[0]], 60).split()
        missing = [file for file in files if not any(f"/{name}".endswith(file.removeprefix("usr")) for name in names)]
        if missing:
            raise Failure(f"{archives[0].name} has no {', '.join(missing)}")
        must_run(["cmake", "-E", "tar", "xf", archives[0]], 60, cwd=root)
        sizes.append(f"{part} {archives[0].stat().st_size / 1e6:.1f} MB")
    prefix = next(root.glob("**/bin/hadalc")).parent.parent
    out = work / "abyss"
    must_run([prefix / "bin" / "hadalc", model, "-o", out], 120)
    text = must_run([out, "--chat", "Tell me a story.", "-n", 12], 60).strip()
    if not text:
        raise Failure("the model that it compiled says nothing")
    return f"{', '.join(sizes)}; says {text[:40]!r}"


def check_lintian(work):
    """What Debian's own checker of packages has to say, where it is installed."""
    if not shutil.which("lintian"):
        return "skipped: there is no lintian"
    packages = sorted(work.glob("*.deb"))
    status, out, err = harness.run(["lintian", "--fail-on", "error,warning", "--allow-root", *packages], 300)
    if status:
        raise Failure(f"lintian: {' / '.join((out + err).strip().splitlines()[:20])}")
    return f"{len(packages)} packages without errors and warnings"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    args = parser.parse_args()
    if not shutil.which("dpkg-shlibdeps") or not shutil.which("cpack"):
        print("skip  there is no dpkg-shlibdeps or no cpack")
        return harness.SKIPPED
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        build, work = args.build.resolve(), Path(work)
        return harness.run_checks([("packages for Debian", lambda: check_debian(build, work)), ("lintian", lambda: check_lintian(work)),
                                   ("archives", lambda: check_archives(build, work, args.model))])


if __name__ == "__main__":
    sys.exit(main())
