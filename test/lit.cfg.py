# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# How lit finds and runs the tests of this tree. Parameters, given as --param NAME=1:
#   roundtrip  hadal-opt also prints its input's IR, parses that again and compares
#   slow       run the tests that say 'REQUIRES: slow', too

import os
import shutil
import subprocess

import lit.formats
from lit.llvm import llvm_config
from lit.llvm.subst import FindTool, ToolSubst

config.name = "Hadal"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".onnxtext", ".test"]
config.excludes = ["Inputs", "CMakeLists.txt", "lit.cfg.py", "lit.site.cfg.py"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.hadal_obj_root, "test")


def given(name):
    return lit_config.params.get(name, "0").lower() not in ("", "0", "off", "false")


# Where a test looks for what it did not make: %source/models, %build/lib.
config.substitutions += [
    ("%source", config.hadal_src_root),
    ("%build", config.hadal_obj_root),
    ("%python", f'"{config.python_executable}"'),
    ("%cxx", config.host_cxx),
    ("%cc", config.host_cc),
]

llvm_config.with_system_environment(["HOME", "TMP", "TEMP", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"])
llvm_config.use_default_substitutions()  # FileCheck, not, count, split-file
llvm_config.with_environment("PATH", [config.hadal_tools_dir, config.llvm_tools_dir], append_path=True)
# Variables live until the next CHECK-LABEL, so that no test matches by another's.
config.environment["FILECHECK_OPTS"] = "--enable-var-scope --dump-input-filter=error"

hadal_opt = ToolSubst("hadal-opt", extra_args=["--verify-roundtrip"] if given("roundtrip") else [])
llvm_config.add_tool_substitutions(
    [hadal_opt, *(ToolSubst(name, unresolved="ignore") for name in
     ("hadalc", "hadal-translate", "hadal-run", "hadal-bench", "hadal-diff", "hadal-eval", "hadal-advise", "hadal-reduce",
      "hadal-lsp-server"))],
    [config.hadal_tools_dir])

# Only what is there: a runtime-only build has no compiler.
for tool in ("hadal-opt", "hadalc", "hadal-translate", "hadal-run", "hadal-bench", "hadal-diff", "hadal-eval", "hadal-advise",
             "hadal-reduce", "hadal-lsp-server"):
    if os.path.exists(os.path.join(config.hadal_tools_dir, tool)):
        config.available_features.add(tool)
for feature in config.hadal_features.split():
    config.available_features.add(feature)
# A container may have a debugger that must not start anything.
if shutil.which("gdb") and "exited normally" in subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", "run", "/bin/true"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout:
    config.available_features.add("gdb")
# A container may not let a profiler see anything, either.
if shutil.which("perf") and subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"],
                                           stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
    config.available_features.add("perf")
if given("slow"):
    config.available_features.add("slow")
if given("roundtrip"):
    config.available_features.add("roundtrip")
