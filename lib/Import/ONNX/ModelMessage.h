// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files of ONNX as messages of the onnx library.

#ifndef HADAL_IMPORT_ONNX_MODELMESSAGE_H
#define HADAL_IMPORT_ONNX_MODELMESSAGE_H

#include "absl/status/status.h"
#include "llvm/ADT/StringRef.h"

namespace onnx {
class ModelProto;
} // namespace onnx

namespace hadal::onnx {

/// Reads the message of \p path, an .onnx file. Bytes of tensors stay where
/// they are, so that a model whose tensors are inside takes no more memory than
/// one whose tensors are beside it: such a tensor is external data of its own
/// file. What nothing here asks for, documentation and known shapes, is left
/// out.
///
/// kInvalidArgument: not a message, cut short, or larger than Hadal takes.
absl::Status readModelMessage(llvm::StringRef path, ::onnx::ModelProto &model);

/// Parses \p path, an .onnxtext file, with the parser of the onnx library.
///
/// kInvalidArgument: it finds an error, or the text is larger than a person
/// writes or nests deeper.
absl::Status parseModelText(llvm::StringRef path, ::onnx::ModelProto &model);

/// Holds nodes, with the checker of the onnx library, against what their
/// operators take: how many inputs and outputs, which attributes of which
/// types. The library knows opsets up to its own; a model of a newer one is not
/// checked.
///
/// kInvalidArgument: a node is wrong, by name.
absl::Status checkNodes(llvm::StringRef path, const ::onnx::ModelProto &model);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_MODELMESSAGE_H
