// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an .onnx file says: its graph, and where the bytes of its tensors are.
// The messages are those of onnx.proto (https://github.com/onnx/onnx), less
// what Hadal does not read, and what is left has been checked.

#ifndef HADAL_IMPORT_ONNX_ONNXFILE_H
#define HADAL_IMPORT_ONNX_ONNXFILE_H

#include "absl/status/statusor.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace hadal::onnx {

/// An element type of `TensorProto.DataType`.
struct DataType {
  int64_t number;
  llvm::StringLiteral name;
  unsigned bits;
};

/// Null if there is none with \p number, or none that a graph may use: text,
/// complex numbers.
const DataType *findDataType(int64_t number);

/// A tensor whose type, shape and size have been checked against each other,
/// and its place against the file that it is in.
struct Tensor {
  std::string name;
  const DataType *type = nullptr;
  llvm::SmallVector<int64_t, 4> shape;
  int64_t elements = 0;
  int64_t sizeBytes = 0;
  /// Relative to the model's folder; empty where `numbers` has the elements, or
  /// none is read.
  std::string file;
  int64_t offsetBytes = 0;
  /// Elements that the file does not have as bytes, each as its bits.
  std::vector<int64_t> numbers;
  bool hasNumbers = false;
};

struct Attribute {
  /// `AttributeProto.AttributeType`; others have no value here.
  enum Kind : int64_t {
    Float = 1,
    Int = 2,
    String = 3,
    TensorValue = 4,
    Floats = 6,
    Ints = 7,
    Strings = 8
  };

  std::string name;
  int64_t kind = 0;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string> strings;
  std::vector<Tensor> tensors;
};

struct Node {
  std::string name, opType, domain;
  /// An empty name stands for one that is left out.
  std::vector<std::string> inputs, outputs;
  std::vector<Attribute> attributes;
};

/// An input or output of the graph.
struct ValueInfo {
  std::string name;
  const DataType *type = nullptr;
  bool hasShape = false;
  /// -1 for a dimension that has a name, or none.
  llvm::SmallVector<int64_t, 4> shape;
  /// Of the same dimensions; empty where there is none.
  std::vector<std::string> names;
};

struct Model {
  int64_t irVersion = 0;
  std::string producer;
  /// Domain of operators, "" for ONNX's own, and version.
  std::vector<std::pair<std::string, int64_t>> opsets;
  std::vector<Node> nodes;
  std::vector<Tensor> initializers;
  std::vector<ValueInfo> inputs, outputs;
};

/// Whether \p path has the name of a file in the text form of ONNX.
bool isTextFile(llvm::StringRef path);

/// Reads \p path, a message or text. Of tensors only the places are read, and
/// those numbers that the file does not have as bytes.
///
/// kInvalidArgument: not a model, cut short, or a tensor whose bytes are not
/// where it says: outside of the model's folder, through a link, beyond the end
/// of the file, or not as many as its shape needs; a node that its operator
/// does not allow. kUnimplemented: something
/// that Hadal does not read. Messages name file, tensor or node, and values.
absl::StatusOr<Model> readModel(llvm::StringRef path, bool hasPlaces);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_ONNXFILE_H
