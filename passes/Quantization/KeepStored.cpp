// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keeps weights as the integers that a checkpoint stores, in their recipes, in
// what passes them on and in the ops that read them.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/GGUFBlocks.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

namespace hadal {
#define GEN_PASS_DEF_KEEPSTORED
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

/// A weight as integers, scales and, if the type is not null, offsets; without
/// codes it is stored in no such form.
struct Form {
  Type codes, scales, offsets;
  int64_t group = 0;
  Attribute codebook = {};
  /// Whether its matrices are transposed since: groups are of their columns.
  bool isTurned = false;

  explicit operator bool() const { return bool(codes); }
  /// The shape of the scales or offsets, of type \p element, of a weight.
  SmallVector<int64_t> shapeOf(ArrayRef<int64_t> weight, Type element) const {
    SmallVector<int64_t> shape(weight);
    int64_t &columns = shape[shape.size() - (isTurned ? 2 : 1)];
    columns = getScaleColumns(columns, group, element);
    return shape;
  }
  /// The type of a part of a weight of type \p weight.
  RankedTensorType typeOf(RankedTensorType weight, GGUFPart part,
                          Type element) const {
    if (part == GGUFPart::Codes)
      return RankedTensorType::get(weight.getShape(), element, codebook);
    return RankedTensorType::get(shapeOf(weight.getShape(), element), element);
  }
  bool operator==(const Form &other) const {
    return codes == other.codes && scales == other.scales &&
           offsets == other.offsets && group == other.group &&
           codebook == other.codebook && isTurned == other.isTurned;
  }
  bool operator!=(const Form &other) const { return !(*this == other); }
};

/// What stands for a weight, or the weights themselves.
template <typename T> struct Parts {
  T codes, scales, offsets;
};

struct KeepStored : public hadal::impl::KeepStoredBase<KeepStored> {
  using KeepStoredBase::KeepStoredBase;

  void runOnOperation() override;

private:
  Form findForm(WeightOp weight);
  Form formOf(Value value);
  void visit(func::FuncOp function);
  bool isKept(Operation *reader);
  void addParts(UseWeightOp use);
  void addArguments();
  void rewrite(Operation *reader);
  void eraseUnused();

  SymbolTable *symbols = nullptr;
  llvm::MapVector<Operation *, SmallVector<func::CallOp>> callsOf;
  llvm::SmallPtrSet<Operation *, 8> visited, isOpen;
  DenseMap<Operation *, Form> forms; ///< Of weights.
  DenseMap<Value, Form> argumentForms;
  llvm::SetVector<Value> wanted;
  llvm::MapVector<Operation *, Parts<WeightOp>> weightParts;
  DenseMap<Value, Parts<Value>> partsOf;
};

} // namespace

/// The matrices that \p op multiplies by, or looks rows up in, if it has no
/// scales for them.
static SmallVector<Value> getMatrices(Operation *op) {
  return llvm::TypeSwitch<Operation *, SmallVector<Value>>(op)
      .Case<LinearOp, HeadLinearOp, LMHeadOp>([](auto op) {
        return op.getScales() ? SmallVector<Value>()
                              : SmallVector<Value>{op.getWeight()};
      })
      .Case([](EmbedOp op) {
        return op.getScales() ? SmallVector<Value>()
                              : SmallVector<Value>{op.getTable()};
      })
      .Case([](ExpertsOp op) {
        return op.getScales().empty()
                   ? SmallVector<Value>{op.getGate(), op.getUp(), op.getDown()}
                   : SmallVector<Value>();
      })
      .Default([](auto) { return SmallVector<Value>(); });
}

/// The form of a recipe that ends in \p op.
static Form formOf(DequantizeGGUFOp op) {
  GGUFParts parts = getGGUFParts(op.getFormat());
  auto type = [&](GGUFPart part) {
    return parts.getType(op.getContext(), part);
  };
  return {type(GGUFPart::Codes), type(GGUFPart::Scales),
          type(GGUFPart::Offsets), parts.group,
          parts.getCodebook(op.getContext())};
}

static Form formOf(DequantizeOp op) {
  Type codes = getElementTypeOrSelf(op.getInput());
  Type scales = getElementTypeOrSelf(op.getScales());
  int64_t columns =
      cast<RankedTensorType>(op.getInput().getType()).getShape().back();
  int64_t group = op.getColumns();
  // Groups of a row, of whole words of a tile. A product of a zero point with a
  // scale of f32 would have to be rounded.
  if (!codes.isInteger() || op.getRows() != 1 || columns % group != 0 ||
      group % getTileColumns(codes.getIntOrFloatBitWidth()) != 0 ||
      (op.getZeros() && scales.isF32()))
    return {};
  Type offsets;
  if (op.getZeros())
    offsets = Float32Type::get(op.getContext());
  return {codes, scales, offsets, group};
}

namespace {

/// The steps of a recipe behind the one that makes numbers of integers, in
/// their order, if they move but whole rows; the last may transpose matrices.
struct Moves {
  Operation *numbers = nullptr; ///< Null if there are other steps.
  SmallVector<Operation *> steps;
  bool isTurned = false;
};

} // namespace

static Moves findMoves(WeightOp weight) {
  Moves moves;
  Operation *op = weight.getResult().getDefiningOp();
  for (; op; op = op->getOperand(0).getDefiningOp()) {
    if (isa<DequantizeGGUFOp, DequantizeOp>(op)) {
      moves.numbers = op;
      std::reverse(moves.steps.begin(), moves.steps.end());
      return moves;
    }
    auto shapeOf = [](Value value) {
      return cast<RankedTensorType>(value.getType()).getShape();
    };
    if (!isa<ReshapeOp, SliceOp, TransposeOp>(op))
      return {};
    ArrayRef<int64_t> before = shapeOf(op->getOperand(0));
    auto last = int64_t(before.size()) - 1;
    if (auto slice = dyn_cast<SliceOp>(op);
        slice && int64_t(slice.getAxis()) == last)
      return {};
    if (isa<ReshapeOp>(op) && before.back() != shapeOf(op->getResult(0)).back())
      return {};
    if (auto transpose = dyn_cast<TransposeOp>(op)) {
      ArrayRef<int64_t> from = transpose.getPermutation();
      if (from.back() != last) {
        if (from != ArrayRef<int64_t>{0, 2, 1} || !moves.steps.empty())
          return {};
        moves.isTurned = true;
      }
    }
    moves.steps.push_back(op);
  }
  return {};
}

/// What \p step makes of \p value, which stands for rows that it moves.
static Value moveRows(OpBuilder &builder, Operation *step, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  auto moved = [&](ArrayRef<int64_t> shape) {
    return RankedTensorType::get(shape, type.getElementType(),
                                 type.getEncoding());
  };
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(step->getResult(0).getType()).getShape());
  shape.back() = type.getShape().back();
  Location loc = step->getLoc();
  return llvm::TypeSwitch<Operation *, Value>(step)
      .Case([&](ReshapeOp) {
        return ReshapeOp::create(builder, loc, moved(shape), value);
      })
      .Case([&](SliceOp op) {
        return SliceOp::create(builder, loc, moved(shape), value, op.getAxis(),
                               op.getBegin(), op.getEnd());
      })
      .Case([&](TransposeOp op) {
        for (auto [i, from] : llvm::enumerate(op.getPermutation()))
          shape[i] = type.getDimSize(unsigned(from));
        return TransposeOp::create(builder, loc, moved(shape), value,
                                   op.getPermutation());
      });
}

/// The form of \p weight. Remarks on integers that have none.
Form KeepStored::findForm(WeightOp weight) {
  Form form;
  RankedTensorType type = weight.getWeightType();
  if (type.getEncoding() || type.getRank() < 2)
    return form;
  Moves moves = findMoves(weight);
  if (!moves.numbers)
    return form;
  auto matrix = dyn_cast<DequantizeOp>(moves.numbers);
  if (matrix && !getElementTypeOrSelf(matrix.getInput()).isInteger())
    return form;
  form = matrix ? ::formOf(matrix)
                : ::formOf(cast<DequantizeGGUFOp>(moves.numbers));
  form.isTurned = moves.isTurned;
  if (form)
    return form;
  emitRemark(weight.getLoc())
      << "'" << weight.getSymName() << "' becomes " << type.getElementType()
      << ": its integers have "
      << (matrix.getZeros() && getElementTypeOrSelf(matrix.getScales()).isF32()
              ? "zero points and scales in f32"
              : "groups in no order, or of no whole words");
  ++numDeclined;
  return form;
}

Form KeepStored::formOf(Value value) {
  if (auto use = value.getDefiningOp<UseWeightOp>())
    return forms.lookup(symbols->lookup(use.getName()));
  return argumentForms.lookup(value);
}

/// Finds the forms of the arguments of \p function, after those of its callers.
/// Where calls differ in them, each gets a function of its own: layers whose
/// weights are stored differently are not alike.
void KeepStored::visit(func::FuncOp function) {
  if (!visited.insert(function).second || isOpen.contains(function))
    return;
  // A caller may be copied meanwhile, with its calls.
  for (func::CallOp call : SmallVector<func::CallOp>(callsOf[function]))
    visit(call->getParentOfType<func::FuncOp>());
  SmallVector<std::pair<SmallVector<Form>, func::FuncOp>> kinds;
  SmallVector<func::CallOp> calls = std::move(callsOf[function]);
  callsOf[function].clear();
  for (func::CallOp call : calls) {
    SmallVector<Form> passed;
    for (Value operand : call.getOperands())
      passed.push_back(formOf(operand));
    auto *kind = llvm::find_if(
        kinds, [&](auto &known) { return known.first == passed; });
    func::FuncOp callee = function;
    if (kind != kinds.end()) {
      callee = kind->second;
    } else if (!kinds.empty()) {
      callee = function.clone();
      symbols->insert(callee, std::next(function->getIterator()));
      visited.insert(callee);
      callee.walk([&](func::CallOp inner) {
        if (auto other = symbols->lookup<func::FuncOp>(inner.getCallee()))
          if (callsOf.contains(other))
            callsOf[other].push_back(inner);
      });
      ++numSpecialized;
    }
    if (kind == kinds.end()) {
      for (auto [argument, form] : llvm::zip(callee.getArguments(), passed))
        argumentForms[argument] = form;
      kinds.push_back({passed, callee});
    }
    call.setCallee(callee.getSymName());
    callsOf[callee].push_back(call);
  }
}

/// True if \p reader can multiply by what its matrices are stored as.
bool KeepStored::isKept(Operation *reader) {
  SmallVector<Form> kept;
  for (Value matrix : getMatrices(reader))
    kept.push_back(formOf(matrix));
  if (kept.empty() ||
      !llvm::all_of(kept, [](Form &form) { return bool(form); }))
    return false;
  if (llvm::any_of(kept, [](Form &form) { return form.isTurned; })) {
    // Groups are of outputs; columns are whole units of a tile, and whole
    // vectors of scales.
    auto head = dyn_cast<HeadLinearOp>(reader);
    int64_t unit = std::max<int64_t>(
        getTileColumns(kept.front().codes.getIntOrFloatBitWidth()), 16);
    return head && head.getWeight().getType().getDimSize(2) % unit == 0;
  }
  if (kept.size() == 1)
    return true;
  // Experts: gate and up are multiplied at once.
  bool areAlike = kept[0] == kept[1];
  if (!areAlike) {
    reader->emitRemark() << "experts become f32: gate and up are stored in "
                            "different forms, of "
                         << kept[0].codes << " and " << kept[1].codes;
    ++numDeclined;
  }
  return areAlike;
}

/// Declares a weight of \p type beside \p weight, with the part \p suffix of
/// its recipe: what \p build makes of the op that makes numbers of integers,
/// moved as these numbers are.
static WeightOp
declarePart(SymbolTable &symbols, WeightOp weight, StringRef suffix,
            RankedTensorType type,
            function_ref<Value(OpBuilder &, Operation *)> build) {
  OpBuilder builder(weight.getContext());
  auto part =
      WeightOp::create(builder, weight.getLoc(),
                       (weight.getSymName() + "." + suffix).str(), type);
  part->setDiscardableAttrs(weight->getDiscardableAttrDictionary());
  IRMapping mapping;
  weight.getRecipe().cloneInto(&part.getRecipe(), mapping);
  auto yield = cast<YieldOp>(part.getRecipe().front().back());
  builder.setInsertionPoint(yield);
  Moves moves = findMoves(part);
  Value value = build(builder, moves.numbers);
  for (Operation *step : moves.steps)
    value = moveRows(builder, step, value);
  yield.getValueMutable().assign(value);
  part.eraseUnusedSteps(); // What only the other parts need.
  symbols.insert(part, std::next(weight->getIterator()));
  return part;
}

/// Gives \p use, of a weight that is kept, its parts.
void KeepStored::addParts(UseWeightOp use) {
  auto weight = symbols->lookup<WeightOp>(use.getName());
  RankedTensorType type = weight.getWeightType();
  const Form &form = forms[weight];
  Parts<WeightOp> &parts = weightParts[weight];
  if (!parts.codes) {
    auto part = [&](StringRef suffix, GGUFPart which, Type element) {
      return declarePart(
          *symbols, weight, suffix, form.typeOf(type, which, element),
          [&](OpBuilder &builder, Operation *numbers) -> Value {
            Location loc = weight.getLoc();
            auto type = cast<RankedTensorType>(numbers->getResult(0).getType());
            Form stored = form;
            stored.isTurned = false;
            if (auto blocks = dyn_cast<DequantizeGGUFOp>(numbers))
              return GGUFPartOp::create(
                  builder, loc, stored.typeOf(type, which, element), which,
                  blocks.getFormat(), blocks.getInput());
            auto matrix = cast<DequantizeOp>(numbers);
            if (which == GGUFPart::Codes)
              return matrix.getInput();
            if (which == GGUFPart::Scales)
              return matrix.getScales();
            // Exact: see `formOf`.
            return DequantizeOp::create(
                builder, loc, stored.typeOf(type, which, element),
                matrix.getZeros(), matrix.getScales(), /*rows=*/1,
                /*columns=*/1, /*unchecked=*/false);
          });
    };
    // Each goes right behind the weight: the last comes first.
    if (form.offsets)
      parts.offsets = part("offsets", GGUFPart::Offsets, form.offsets);
    parts.scales = part("scales", GGUFPart::Scales, form.scales);
    parts.codes = part("codes", GGUFPart::Codes, form.codes);
    ++numKept;
  }
  OpBuilder builder(use->getContext());
  builder.setInsertionPointAfter(use);
  auto read = [&](WeightOp part) -> Value {
    return UseWeightOp::create(builder, use.getLoc(), part.getWeightType(),
                               part.getSymName());
  };
  Parts<Value> &values = partsOf[use.getResult()];
  values.codes = read(parts.codes);
  values.scales = read(parts.scales);
  if (parts.offsets)
    values.offsets = read(parts.offsets);
}

/// Gives arguments that are wanted their parts, and calls of their functions.
void KeepStored::addArguments() {
  llvm::MapVector<Operation *, SmallVector<BlockArgument>> argumentsOf;
  for (Value value : wanted)
    if (auto argument = dyn_cast<BlockArgument>(value))
      argumentsOf[argument.getOwner()->getParentOp()].push_back(argument);
  // Where parts of which operands come in calls.
  llvm::MapVector<Operation *, llvm::SmallBitVector> positions;
  for (auto &[op, arguments] : argumentsOf) {
    auto function = cast<func::FuncOp>(op);
    auto &bits = positions[op];
    bits.resize(function.getNumArguments());
    // From the last, so that the indices of those before do not change.
    llvm::sort(arguments, [](BlockArgument a, BlockArgument b) {
      return a.getArgNumber() > b.getArgNumber();
    });
    for (BlockArgument argument : arguments) {
      bits.set(argument.getArgNumber());
      Form form = argumentForms[argument];
      auto type = cast<RankedTensorType>(argument.getType());
      unsigned index = argument.getArgNumber();
      auto insert = [&](ArrayRef<int64_t> shape, Type element,
                        Attribute encoding = {}) -> Value {
        auto partType = RankedTensorType::get(shape, element, encoding);
        if (failed(function.insertArgument(++index, partType, {},
                                           argument.getLoc())))
          llvm_unreachable("the type of a func.func can always be replaced");
        return function.getArgument(index);
      };
      Parts<Value> &values = partsOf[argument];
      values.codes = insert(type.getShape(), form.codes, form.codebook);
      values.scales =
          insert(form.shapeOf(type.getShape(), form.scales), form.scales);
      if (form.offsets)
        values.offsets =
            insert(form.shapeOf(type.getShape(), form.offsets), form.offsets);
    }
  }
  for (auto &[op, bits] : positions)
    for (func::CallOp call : callsOf[op]) {
      SmallVector<Value> operands;
      for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
        operands.push_back(operand);
        if (!bits.test(unsigned(i)))
          continue;
        const Parts<Value> &values = partsOf[operand];
        operands.append({values.codes, values.scales});
        if (values.offsets)
          operands.push_back(values.offsets);
      }
      call->setOperands(operands);
    }
}

void KeepStored::rewrite(Operation *reader) {
  SmallVector<Value> codes, scales, offsets;
  for (Value matrix : getMatrices(reader)) {
    const Parts<Value> &parts = partsOf[matrix];
    codes.push_back(parts.codes);
    scales.push_back(parts.scales);
    if (parts.offsets)
      offsets.push_back(parts.offsets);
  }
  llvm::TypeSwitch<Operation *>(reader)
      .Case<LinearOp, HeadLinearOp, LMHeadOp>(
          [&](auto op) { op.getWeightMutable().assign(codes[0]); })
      .Case([&](EmbedOp op) { op.getTableMutable().assign(codes[0]); })
      .Case([&](ExpertsOp op) {
        op.getGateMutable().assign(codes[0]);
        op.getUpMutable().assign(codes[1]);
        op.getDownMutable().assign(codes[2]);
      });
  llvm::TypeSwitch<Operation *>(reader)
      .Case<LinearOp, HeadLinearOp, LMHeadOp, EmbedOp, ExpertsOp>([&](auto op) {
        op.getScalesMutable().assign(scales);
        op.getOffsetsMutable().assign(offsets);
      });
}

/// Erases what nothing reads any more. Codes take the name of their weight.
void KeepStored::eraseUnused() {
  SmallVector<Value> values(wanted.begin(), wanted.end());
  for (bool hasChanged = true; hasChanged;) {
    hasChanged = false;
    for (Value &value : values) {
      if (!value || !value.use_empty())
        continue;
      hasChanged = true;
      if (auto use = value.getDefiningOp<UseWeightOp>()) {
        use.erase();
      } else {
        auto argument = cast<BlockArgument>(value);
        auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
        unsigned index = argument.getArgNumber();
        for (func::CallOp call : callsOf[function])
          call->eraseOperand(index);
        if (failed(function.eraseArgument(index)))
          llvm_unreachable("the type of a func.func can always be replaced");
      }
      value = nullptr;
    }
  }
  llvm::SmallPtrSet<Operation *, 16> used;
  llvm::MapVector<Operation *, Operation *> readersOfNumbers;
  getOperation().walk([&](UseWeightOp use) {
    Operation *weight = symbols->lookup(use.getName());
    used.insert(weight);
    // Experts whose matrices are not alike have their remark already.
    for (Operation *user : use->getUsers())
      if (forms.lookup(weight) && !isa<func::CallOp, ExpertsOp>(user))
        readersOfNumbers.insert({weight, user});
  });
  for (auto [op, reader] : readersOfNumbers) {
    emitRemark(op->getLoc())
        << "'" << cast<WeightOp>(op).getSymName() << "' is stored in "
        << getElementTypeOrSelf(cast<WeightOp>(op).getWeightType())
        << (weightParts.contains(op) ? ", too" : "") << ": '"
        << reader->getName() << "' reads its numbers";
    ++numDeclined;
  }
  DenseMap<StringAttr, StringAttr> renamed;
  for (auto &[op, parts] : weightParts) {
    auto weight = cast<WeightOp>(op);
    if (used.contains(weight))
      continue;
    StringAttr name = weight.getSymNameAttr();
    symbols->erase(weight);
    renamed[parts.codes.getSymNameAttr()] = name;
    symbols->remove(parts.codes);
    parts.codes.setSymNameAttr(name);
    symbols->insert(parts.codes);
  }
  getOperation().walk([&](UseWeightOp use) {
    if (StringAttr name = renamed.lookup(use.getNameAttr().getAttr()))
      use.setNameAttr(FlatSymbolRefAttr::get(name));
  });
}

void KeepStored::runOnOperation() {
  ModuleOp module = getOperation();
  SymbolTable table(module);
  symbols = &table;
  callsOf.clear();
  visited.clear();
  isOpen.clear();
  forms.clear();
  argumentForms.clear();
  wanted.clear();
  weightParts.clear();
  partsOf.clear();

  // Weights that a product, or a call, reads.
  module.walk([&](UseWeightOp use) {
    auto weight = symbols->lookup<WeightOp>(use.getName());
    if (weight && !forms.contains(weight))
      forms[weight] = findForm(weight);
  });
  if (llvm::none_of(forms, [](auto &entry) { return bool(entry.second); }))
    return markAllAnalysesPreserved();

  SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
  for (func::FuncOp function : functions)
    if (!function.isExternal())
      callsOf[function];
  module.walk([&](func::CallOp call) {
    auto callee = symbols->lookup<func::FuncOp>(call.getCallee());
    if (callee && !callee.isExternal())
      callsOf[callee].push_back(call);
    if (callee && call.getArgAttrsAttr())
      isOpen.insert(callee);
  });
  std::optional<SymbolTable::UseRange> references =
      SymbolTable::getSymbolUses(&module.getBodyRegion());
  if (references)
    for (SymbolTable::SymbolUse reference : *references)
      if (!isa<func::CallOp>(reference.getUser()))
        isOpen.insert(
            symbols->lookup(reference.getSymbolRef().getRootReference()));
  for (func::FuncOp function : functions)
    if (function.isPublic() || !references || callsOf.lookup(function).empty())
      isOpen.insert(function);
  for (func::FuncOp function : functions)
    visit(function);

  SmallVector<Operation *> readers;
  module.walk([&](Operation *op) {
    if (!isKept(op))
      return;
    readers.push_back(op);
    for (Value matrix : getMatrices(op))
      wanted.insert(matrix);
  });
  // What is wanted of an argument is wanted of what calls pass.
  for (size_t i = 0; i < wanted.size(); ++i) {
    auto argument = dyn_cast<BlockArgument>(wanted[i]);
    if (!argument)
      continue;
    for (func::CallOp call : callsOf[argument.getOwner()->getParentOp()])
      wanted.insert(call.getOperand(argument.getArgNumber()));
  }
  for (Value value : wanted)
    if (auto use = value.getDefiningOp<UseWeightOp>())
      addParts(use);
  addArguments();
  for (Operation *reader : readers)
    rewrite(reader);
  eraseUnused();
}
