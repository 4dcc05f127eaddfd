# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

"""An installed Hadal as a repository: its compiler, runtime and headers."""

_BUILD = """
package(default_visibility = ["//visibility:public"])

exports_files(["bin/hadalc"])

# The runtime; C.
cc_library(
    name = "rt",
    srcs = ["lib/hadal/libhadal_rt.a"],
    hdrs = glob(["include/hadal_rt/**"]),
    includes = ["include"],
    linkopts = ["-pthread"],
)

# Tokenizers, chat formats, samplers; C and C++.
cc_library(
    name = "text",
    srcs = [
        "lib/hadal/libhadal_text.a",
        "lib/hadal/libpcre2-8.a",
    ],
    hdrs = glob(["include/hadal_text/**"]),
    includes = ["include"],
    deps = [":rt"],
)
"""

def _hadal_repository_impl(context):
    prefix = context.path(context.attr.prefix)
    hadalc = prefix.get_child("bin").get_child("hadalc")
    if not hadalc.exists:
        fail("there is no bin/hadalc in '%s', expected the prefix of an installed Hadal" % prefix)
    for path in ["bin/hadalc", "lib/hadal", "include/hadal_rt", "include/hadal_text"]:
        context.symlink(str(prefix) + "/" + path, path)
    context.file("BUILD.bazel", _BUILD)

hadal_repository = repository_rule(
    implementation = _hadal_repository_impl,
    doc = "The Hadal that is installed at a prefix, such as /usr.",
    attrs = {
        "prefix": attr.string(
            default = "/usr",
            doc = "An absolute path: that of `cmake --install`, or /usr with the .deb.",
        ),
    },
    local = True,
)
