// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The graph of an .onnx file becomes a function of the onnx dialect.

#include "lib/Import/ONNX/GraphImporter.h"

#include "dialects/ONNX/IR/ONNXOps.h"
#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/ONNXFile.h"
#include "lib/Import/VerifyModule.h"
#include "lib/Support/FileIO.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Path.h"

#include <cstring>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// The newest opset that Hadal knows the operators of, that of onnx 1.23.
constexpr int64_t maxOpset = 28;
/// Integers that shapes are computed from, not weights.
constexpr int64_t maxConstantElements = 1024;

namespace {
class GraphImporter {
public:
  GraphImporter(MLIRContext &context, const Model &model, StringRef path)
      : builder(&context), model(model), path(path),
        folder(llvm::sys::path::parent_path(path)),
        module(ModuleOp::create(builder.getUnknownLoc())) {}

  absl::StatusOr<OwningOpRef<ModuleOp>> run();

private:
  absl::Status fail(const Twine &message) {
    return invalid(path + ": " + message);
  }
  Location locationOf(StringRef name) {
    return name.empty() ? Location(builder.getUnknownLoc())
                        : NameLoc::get(builder.getStringAttr(name));
  }
  Type elementType(const DataType &type);
  Type narrowType(const DataType &type);
  RankedTensorType tensorType(const Tensor &tensor);
  absl::Status define(StringRef name, Value value);
  absl::StatusOr<DenseElementsAttr> readTensor(const Tensor &tensor);
  absl::StatusOr<Value> makeTensor(const Tensor &tensor);
  absl::StatusOr<mlir::Attribute>
  makeAttribute(const onnx::Attribute &attribute, const Node &node);
  absl::Status addNode(const Node &node);

  OpBuilder builder;
  const Model &model;
  StringRef path;
  std::string folder;
  OwningOpRef<ModuleOp> module;
  llvm::StringMap<Value> values;
  Value none;
};
} // namespace

Type onnx::getElementType(Builder &builder, int64_t number) {
  MLIRContext *context = builder.getContext();
  auto getUnsigned = [&](unsigned bits) {
    return IntegerType::get(context, bits, IntegerType::Unsigned);
  };
  switch (number) {
  case 1:
    return builder.getF32Type();
  case 2:
    return getUnsigned(8);
  case 3:
    return builder.getI8Type();
  case 4:
    return getUnsigned(16);
  case 5:
    return builder.getI16Type();
  case 6:
    return builder.getI32Type();
  case 7:
    return builder.getI64Type();
  case 9:
    return builder.getI1Type();
  case 10:
    return builder.getF16Type();
  case 11:
    return builder.getF64Type();
  case 12:
    return getUnsigned(32);
  case 13:
    return getUnsigned(64);
  case 16:
    return builder.getBF16Type();
  case 17:
    return Float8E4M3FNType::get(context);
  case 18:
    return Float8E4M3FNUZType::get(context);
  case 19:
    return Float8E5M2Type::get(context);
  case 20:
    return Float8E5M2FNUZType::get(context);
  case 24:
    return Float8E8M0FNUType::get(context);
  default:
    return {};
  }
}

Type GraphImporter::elementType(const DataType &type) {
  if (Type known = getElementType(builder, type.number))
    return known;
  // Codes that are not numbers by themselves.
  return IntegerType::get(builder.getContext(), std::max(type.bits, 8u),
                          IntegerType::Unsigned);
}

/// Of fewer than 8 bits.
Type GraphImporter::narrowType(const DataType &type) {
  if (type.number == 23)
    return Float4E2M1FNType::get(builder.getContext());
  bool isSigned = type.number == 22 || type.number == 26;
  return IntegerType::get(builder.getContext(), type.bits,
                          isSigned ? IntegerType::Signless
                                   : IntegerType::Unsigned);
}

/// Elements of fewer than 8 bits are rows of bytes.
RankedTensorType GraphImporter::tensorType(const Tensor &tensor) {
  Type element = elementType(*tensor.type);
  if (tensor.type->bits >= 8)
    return RankedTensorType::get(tensor.shape, element);
  return RankedTensorType::get({tensor.sizeBytes}, element);
}

absl::Status GraphImporter::define(StringRef name, Value value) {
  if (name.empty())
    return absl::OkStatus();
  if (!values.try_emplace(name, value).second)
    return fail("two values are called " + quote(name));
  return absl::OkStatus();
}

/// The numbers of \p tensor, or null if it is one that recipes read.
absl::StatusOr<DenseElementsAttr>
GraphImporter::readTensor(const Tensor &tensor) {
  RankedTensorType type = tensorType(tensor);
  Type element = type.getElementType();
  bool isInteger = element.isSignlessInteger() && !element.isInteger(8);
  bool isConstant = isInteger ? tensor.elements <= maxConstantElements
                              : tensor.elements == 1 && tensor.type->bits >= 8;
  if (!tensor.hasNumbers && (!isConstant || tensor.file.empty()))
    return DenseElementsAttr();
  // One bit pattern an element, the lowest byte first.
  unsigned bytes = std::max(tensor.type->bits, 8u) / 8;
  std::vector<char> data(size_t(tensor.elements) * bytes);
  if (tensor.hasNumbers) {
    for (auto [i, number] : llvm::enumerate(tensor.numbers))
      std::memcpy(data.data() + i * bytes, &number, bytes);
  } else {
    llvm::SmallString<256> full(folder);
    llvm::sys::path::append(full, tensor.file);
    InputFile file;
    std::string error;
    if (!file.open(full, error) || !file.read(uint64_t(tensor.offsetBytes),
                                              data.data(), data.size(), error))
      return invalid(error);
  }
  if (element.isInteger(1)) {
    SmallVector<bool> bits;
    for (char byte : data)
      bits.push_back(byte != 0);
    return DenseElementsAttr::get(type, ArrayRef(bits));
  }
  if (data.empty())
    return DenseElementsAttr::get(type, ArrayRef<mlir::Attribute>());
  return DenseElementsAttr::getFromRawBuffer(type, data);
}

absl::StatusOr<Value> GraphImporter::makeTensor(const Tensor &tensor) {
  absl::StatusOr<DenseElementsAttr> numbers = readTensor(tensor);
  if (!numbers.ok())
    return numbers.status();
  Location loc = locationOf(tensor.name);
  if (*numbers) {
    auto constant = ConstantOp::create(builder, loc, *numbers);
    if (!tensor.file.empty()) {
      constant.setName(tensor.name);
      constant.setFile(tensor.file);
      constant.setOffset(uint64_t(tensor.offsetBytes));
    }
    return Value(constant);
  }
  auto op = InitializerOp::create(
      builder, loc, tensorType(tensor), builder.getStringAttr(tensor.name),
      builder.getStringAttr(tensor.file),
      builder.getI64IntegerAttr(tensor.offsetBytes));
  if (tensor.type->bits < 8)
    op->setAttr(packedAttrName, TypeAttr::get(RankedTensorType::get(
                                    tensor.shape, narrowType(*tensor.type))));
  return Value(op);
}

absl::StatusOr<mlir::Attribute>
GraphImporter::makeAttribute(const onnx::Attribute &attribute,
                             const Node &node) {
  using Kind = onnx::Attribute::Kind;
  auto wrong = [&]() {
    return fail("node " + quote(node.name) + " (" + quote(node.opType) +
                ") has the attribute " + quote(attribute.name) + " of type " +
                Twine(attribute.kind) + ", without a value of that type");
  };
  auto integer = [&](int64_t value) -> mlir::Attribute {
    return builder.getI64IntegerAttr(value);
  };
  // A value of zero may be left out of a message of proto3.
  switch (attribute.kind) {
  case Kind::Float:
    return builder.getF32FloatAttr(
        attribute.floats.empty() ? 0 : attribute.floats.back());
  case Kind::Int:
    return integer(attribute.ints.empty() ? 0 : attribute.ints.back());
  case Kind::String:
    return builder.getStringAttr(
        attribute.strings.empty() ? "" : attribute.strings.back());
  case Kind::Floats:
    return builder.getF32ArrayAttr(attribute.floats);
  case Kind::Ints:
    return builder.getDenseI64ArrayAttr(attribute.ints);
  case Kind::Strings: {
    SmallVector<StringRef> strings(attribute.strings.begin(),
                                   attribute.strings.end());
    return builder.getStrArrayAttr(strings);
  }
  case Kind::TensorValue: {
    if (attribute.tensors.size() != 1)
      return wrong();
    absl::StatusOr<DenseElementsAttr> numbers =
        readTensor(attribute.tensors.front());
    if (!numbers.ok())
      return numbers.status();
    return *numbers ? mlir::Attribute(*numbers) : builder.getUnitAttr();
  }
  default:
    return wrong();
  }
}

absl::Status GraphImporter::addNode(const Node &node) {
  std::string name = node.name;
  if (name.empty() && !node.outputs.empty())
    name = node.outputs.front(); // What else to call it.
  std::string where = "node " + quote(name) + " (" + quote(node.opType) + ")";
  if (node.domain.empty() && node.opType == "Constant" &&
      node.attributes.size() == 1 && node.outputs.size() == 1) {
    const onnx::Attribute &attribute = node.attributes.front();
    if (attribute.name == "value" && attribute.tensors.size() == 1) {
      Tensor tensor = attribute.tensors.front();
      tensor.name = node.outputs.front();
      absl::StatusOr<Value> value = makeTensor(tensor);
      if (!value.ok())
        return value.status();
      return define(node.outputs.front(), *value);
    }
    DenseElementsAttr value;
    auto shaped = [&](size_t count, bool isOne, Type element) {
      SmallVector<int64_t, 1> shape;
      if (!isOne)
        shape.push_back(int64_t(count));
      return RankedTensorType::get(shape, element);
    };
    bool isOne =
        attribute.name == "value_int" || attribute.name == "value_float";
    bool isInt =
        attribute.name == "value_int" || attribute.name == "value_ints";
    bool isFloat =
        attribute.name == "value_float" || attribute.name == "value_floats";
    if (isInt && (!isOne || attribute.ints.size() == 1))
      value = DenseElementsAttr::get(
          shaped(attribute.ints.size(), isOne, builder.getI64Type()),
          ArrayRef(attribute.ints));
    if (isFloat && (!isOne || attribute.floats.size() == 1))
      value = DenseElementsAttr::get(
          shaped(attribute.floats.size(), isOne, builder.getF32Type()),
          ArrayRef(attribute.floats));
    if (!value)
      return unimplemented(path + ": " + where + " has the attribute " +
                           quote(attribute.name) +
                           ", which is not supported for a constant");
    return define(node.outputs.front(),
                  ConstantOp::create(builder, locationOf(name), value));
  }
  SmallVector<Value> inputs;
  for (const std::string &input : node.inputs) {
    if (input.empty()) {
      inputs.push_back(none);
      continue;
    }
    Value value = values.lookup(input);
    if (!value)
      return fail(where + " reads " + quote(input) +
                  ", which no node before it computes");
    inputs.push_back(value);
  }
  while (!inputs.empty() && inputs.back() == none)
    inputs.pop_back();
  NamedAttrList parameters;
  for (const onnx::Attribute &attribute : node.attributes) {
    if (parameters.get(attribute.name))
      return fail(where + " has the attribute " + quote(attribute.name) +
                  " twice");
    if (attribute.name.empty())
      return fail(where + " has an attribute without a name");
    absl::StatusOr<mlir::Attribute> value = makeAttribute(attribute, node);
    if (!value.ok())
      return value.status();
    parameters.set(attribute.name, *value);
  }
  std::string type =
      node.domain.empty() ? node.opType : node.domain + "." + node.opType;
  SmallVector<Type> outputs(node.outputs.size(),
                            ValueType::get(builder.getContext()));
  auto op =
      NodeOp::create(builder, locationOf(name), outputs, type, name, inputs,
                     parameters.getDictionary(builder.getContext()));
  for (auto [output, value] : llvm::zip(node.outputs, op.getOutputs()))
    if (absl::Status status = define(output, value); !status.ok())
      return status;
  return absl::OkStatus();
}

/// An operator that has been what it is since version 1.
static bool isAsEver(StringRef type) {
  return llvm::is_contained({"GlobalAveragePool", "GlobalMaxPool", "Not",
                             "Softplus", "Softsign", "Transpose"},
                            type);
}

absl::StatusOr<OwningOpRef<ModuleOp>> GraphImporter::run() {
  SmallVector<NamedAttribute> opsets;
  llvm::StringMap<int64_t> versions;
  for (const auto &[domain, version] : model.opsets) {
    StringRef name = domain.empty() ? StringRef("ai.onnx") : StringRef(domain);
    if (!versions.try_emplace(name, version).second)
      return fail("imports two versions of the operators of " + quote(name));
    opsets.push_back(
        builder.getNamedAttr(name, builder.getI64IntegerAttr(version)));
  }
  auto version = versions.find("ai.onnx");
  if (version == versions.end())
    return fail("does not say which version of ONNX's operators it uses");
  bool isOld = version->second < 7 && !llvm::all_of(
                                          model.nodes,
                                          [](const auto &node) {
                                            return node.domain.empty() &&
                                                   isAsEver(node.opType);
                                          });
  if (version->second < 1 || isOld || version->second > maxOpset)
    return unimplemented(path + ": uses opset " + Twine(version->second) +
                         " of ONNX's operators, expected 7 to " +
                         Twine(maxOpset));

  llvm::StringSet<> initialized;
  for (const Tensor &tensor : model.initializers)
    initialized.insert(tensor.name);
  // Files before version 4 list initializers as inputs, too.
  std::vector<const ValueInfo *> inputs;
  SmallVector<Type> types;
  for (const ValueInfo &input : model.inputs) {
    if (initialized.contains(input.name))
      continue;
    if (!input.hasShape)
      return fail("input " + quote(input.name) + " has no shape");
    inputs.push_back(&input);
    SmallVector<int64_t> shape(input.shape.begin(), input.shape.end());
    for (int64_t &size : shape)
      if (size == -1)
        size = ShapedType::kDynamic;
    Type element = input.type->bits < 8 ? narrowType(*input.type)
                                        : elementType(*input.type);
    types.push_back(RankedTensorType::get(shape, element));
  }
  SmallVector<StringRef> outputs;
  for (const ValueInfo &output : model.outputs)
    outputs.push_back(output.name);

  builder.setInsertionPointToEnd(module->getBody());
  auto function =
      func::FuncOp::create(builder, builder.getUnknownLoc(), graphName,
                           builder.getFunctionType(types, {}));
  function->setAttr("onnx.opsets", builder.getDictionaryAttr(opsets));
  function->setAttr("onnx.outputs", builder.getStrArrayAttr(outputs));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  none =
      NoneOp::create(builder, builder.getUnknownLoc(), builder.getNoneType());
  for (auto [i, input] : llvm::enumerate(inputs)) {
    block->getArgument(unsigned(i)).setLoc(locationOf(input->name));
    function.setArgAttr(unsigned(i), "onnx.name",
                        builder.getStringAttr(input->name));
    if (llvm::is_contained(input->shape, -1)) {
      SmallVector<mlir::Attribute> dims;
      for (auto [size, name] : llvm::zip(input->shape, input->names))
        dims.push_back(builder.getStringAttr(size == -1 ? name : ""));
      function.setArgAttr(unsigned(i), dimsAttrName,
                          builder.getArrayAttr(dims));
    }
    if (absl::Status status =
            define(input->name, block->getArgument(unsigned(i)));
        !status.ok())
      return status;
  }
  for (const Tensor &tensor : model.initializers) {
    absl::StatusOr<Value> value = makeTensor(tensor);
    if (!value.ok())
      return value.status();
    if (absl::Status status = define(tensor.name, *value); !status.ok())
      return status;
  }
  for (const Node &node : model.nodes)
    if (absl::Status status = addNode(node); !status.ok())
      return status;
  SmallVector<Value> results;
  for (StringRef name : outputs) {
    Value value = values.lookup(name);
    if (!value)
      return fail("no node computes the output " + quote(name));
    results.push_back(value);
  }
  if (none.use_empty())
    none.getDefiningOp()->erase();
  func::ReturnOp::create(builder, builder.getUnknownLoc(), results);
  function.setFunctionType(
      builder.getFunctionType(types, TypeRange(ValueRange(results))));

  if (absl::Status status = verifyModule(*module, "imported graph");
      !status.ok())
    return status;
  return std::move(module);
}

std::string onnx::getSourceName(InitializerOp tensor) {
  std::string name;
  for (char c : tensor.getName())
    name += c == '{' ? '(' : c == '}' ? ')' : c;
  return name;
}

/// Calls \p visit with each dimension of an input that has no size: the input,
/// its number, the axis, the dimension's name, or none, and INPUT.AXIS.
static void forUnknownDimensions(
    func::FuncOp graph,
    function_ref<void(BlockArgument input, size_t axis, StringRef name,
                      const std::string &place)>
        visit) {
  for (BlockArgument argument : graph.getArguments()) {
    unsigned i = argument.getArgNumber();
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    auto names = graph.getArgAttrOfType<ArrayAttr>(i, dimsAttrName);
    auto input = graph.getArgAttrOfType<StringAttr>(i, "onnx.name");
    if (!type || !names || !input || int64_t(names.size()) != type.getRank())
      continue;
    for (auto [axis, name] : llvm::enumerate(names.getAsRange<StringAttr>()))
      if (type.isDynamicDim(unsigned(axis)))
        visit(argument, axis, name.getValue(),
              (input.getValue() + "." + Twine(axis)).str());
  }
}

SmallVector<std::string> onnx::unknownDimensions(ModuleOp module) {
  SmallVector<std::string> names;
  if (auto graph = module.lookupSymbol<func::FuncOp>(graphName))
    forUnknownDimensions(graph, [&](BlockArgument, size_t, StringRef name,
                                    const std::string &place) {
      std::string known = name.empty() ? place : name.str();
      if (!llvm::is_contained(names, known))
        names.push_back(known);
    });
  return names;
}

absl::Status
onnx::setDimensions(ModuleOp module, StringRef path,
                    ArrayRef<std::pair<std::string, int64_t>> dims) {
  auto graph = module.lookupSymbol<func::FuncOp>(graphName);
  if (!graph)
    return invalid(path + ": has no function '@" + graphName + "'");
  std::string known;
  for (const std::string &name : unknownDimensions(module))
    known += (known.empty() ? "" : ", ") + quote(name);
  llvm::StringSet<> used;
  auto find = [&](StringRef name) -> std::optional<int64_t> {
    for (const auto &[each, size] : dims)
      if (each == name) {
        used.insert(name);
        return size;
      }
    return std::nullopt;
  };
  forUnknownDimensions(graph, [&](BlockArgument input, size_t axis,
                                  StringRef name, const std::string &place) {
    std::optional<int64_t> size = find(place);
    if (std::optional<int64_t> byName = find(name); byName && !size)
      size = byName;
    auto type = cast<RankedTensorType>(input.getType());
    SmallVector<int64_t> shape(type.getShape());
    if (size)
      shape[axis] = *size;
    input.setType(RankedTensorType::get(shape, type.getElementType()));
  });
  for (const auto &[name, size] : dims)
    if (!used.contains(name))
      return invalid(path + ": has no dimension " + quote(name) + ", it has " +
                     (known.empty() ? "none" : known));
  graph.setFunctionType(
      FunctionType::get(module.getContext(), graph.front().getArgumentTypes(),
                        graph.getFunctionType().getResults()));
  return absl::OkStatus();
}

RankedTensorType onnx::getLogicalType(InitializerOp tensor) {
  if (auto packed = tensor->getAttrOfType<TypeAttr>(packedAttrName))
    return cast<RankedTensorType>(packed.getValue());
  return tensor.getType();
}

absl::StatusOr<OwningOpRef<ModuleOp>>
onnx::importGraph(MLIRContext &context, StringRef path, bool hasPlaces) {
  context.loadDialect<ONNXDialect, func::FuncDialect>();
  absl::StatusOr<Model> model = readModel(path, hasPlaces);
  if (!model.ok())
    return model.status();
  return GraphImporter(context, *model, path).run();
}
