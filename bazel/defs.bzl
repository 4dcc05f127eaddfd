# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

"""A model that hadalc compiles is a library like others."""

def _hadal_compile_impl(context):
    config = context.file.config
    outputs = [context.outputs.object, context.outputs.header, context.outputs.weights]
    arguments = context.actions.args()
    arguments.add(context.executable.hadalc)
    arguments.add(config)
    arguments.add("--emit=obj")
    arguments.add("-o", context.outputs.object)
    arguments.add(context.outputs.header, format = "--header=%s")
    arguments.add("--cpu=" + context.attr.cpu)
    if context.attr.quantize:
        arguments.add("--quantize=" + context.attr.quantize)
    arguments.add("--quiet")
    arguments.add_all(context.attr.options)

    # Bazel gives links to the files. hadalc follows none out of the model's
    # folder, so that it gets the folder where they are.
    context.actions.run_shell(
        command = """hadalc=$1 config=$(readlink -f "$2"); shift 2
[ "${config##*/}" = config.json ] && config=${config%/*}
exec "$hadalc" "$config" "$@" """,
        arguments = [arguments],
        inputs = [config] + context.files.srcs,
        tools = [context.executable.hadalc],
        outputs = outputs,
        mnemonic = "HadalCompile",
        progress_message = "Compiling the model %s" % context.label,
    )
    return [DefaultInfo(files = depset(outputs))]

_hadal_compile = rule(
    implementation = _hadal_compile_impl,
    attrs = {
        "config": attr.label(allow_single_file = True, mandatory = True),
        "cpu": attr.string(mandatory = True),
        "hadalc": attr.label(
            allow_single_file = True,
            cfg = "host",
            executable = True,
            mandatory = True,
        ),
        "header": attr.output(mandatory = True),
        "object": attr.output(mandatory = True),
        "options": attr.string_list(),
        "quantize": attr.string(),
        "srcs": attr.label_list(allow_files = True),
        "weights": attr.output(mandatory = True),
    },
)

def hadal_model(
        name,
        config,
        srcs = [],
        quantize = "",
        cpu = "x86-64-v3",
        options = [],
        repository = "@hadal",
        **kwargs):
    """Compiles a model to a cc_library, whose header declares NAME_model.

    The weights, NAME.weights, are data of the library: programs and tests that
    depend on it find them in their runfiles.

    Args:
      name: of the library; NAME.h is its header.
      config: the model's config.json, or its .gguf, .onnx or .mlir.
      srcs: the model's other files: safetensors, tokenizer.json, ...
      quantize: scheme of `hadalc --quantize`; empty: weights as they are.
      cpu: processor that runs it, as `hadalc --cpu`.
      options: more options of hadalc.
      repository: name of the hadal_repository.
      **kwargs: of the cc_library, such as visibility.
    """
    _hadal_compile(
        name = name + "_compile",
        config = config,
        cpu = cpu,
        hadalc = repository + "//:bin/hadalc",
        header = name + ".h",
        object = name + ".o",
        options = options,
        quantize = quantize,
        srcs = srcs,
        visibility = ["//visibility:private"],
        weights = name + ".weights",
    )
    native.cc_library(
        name = name,
        srcs = [name + ".o"],
        hdrs = [name + ".h"],
        data = [name + ".weights"],
        # At the root, the header is found anyway, and Bazel refuses this.
        includes = ["."] if native.package_name() else [],
        deps = [repository + "//:rt"],
        **kwargs
    )
