#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Makes the packages of a build, and looks into them. scripts/package-test installs them in a fresh Debian.
"""Checks what cpack makes.

    check_packages.py --build build
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, type=Path)
    args = parser.parse_args()
    if not shutil.which("dpkg-shlibdeps") or not shutil.which("cpack"):
        print("skip  there is no dpkg-shlibdeps or no cpack")
        return harness.SKIPPED
    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as work:
        return harness.run_checks([("packages for Debian", lambda: check_debian(args.build.resolve(), Path(work)))])


if __name__ == "__main__":
    sys.exit(main())
