// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stores weights as integers with scales, in their recipes, in what passes them
// on and in the ops that read them.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/Rounding.h"
#include "passes/Quantization/Scheme.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

namespace hadal {
#define GEN_PASS_DEF_QUANTIZE
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Groups that a row is cut into, and by which inputs are rounded. The largest
/// is the most that the integers of one group add up exactly to f32.
static constexpr int64_t groupSizes[] = {128, 64, 32};

/// What is added to each second moment of an input, of their mean, as in the
/// reference implementation of GPTQ.
static constexpr double gramDamping = 0.01;

//===----------------------------------------------------------------------===//
// Classes of weights
//===----------------------------------------------------------------------===//

namespace {

/// What a product is part of, if that can be told.
enum class Place { Unknown, Attention, FFN, Router };

} // namespace

/// What \p op is as the end of a path from or to a product.
static Place getPlace(Operation *op) {
  return llvm::TypeSwitch<Operation *, Place>(op)
      .Case<AttentionOp, LatentAttentionOp, AbsorbedAttentionOp, CompressOp,
            SelectEntriesOp, CompressedAttentionOp>(
          [](auto) { return Place::Attention; })
      .Case<SwiGLUOp>([](auto) { return Place::FFN; })
      .Case<RouterOp, HashRouterOp>([](auto) { return Place::Router; })
      .Default([](auto) { return Place::Unknown; });
}

/// True if a path from or to a product goes on through \p op. It ends at a
/// residual addition, behind which is another part of the layer.
static bool isPassedThrough(Operation *op) {
  return isa<LinearOp, HeadLinearOp, RMSNormOp, UnitNormOp, RoundToGridOp,
             SplitOp, RotaryOp>(op);
}

/// The first place that \p start leads to, forward or \p isBackward.
static Place findPlace(Operation *start, bool isBackward) {
  llvm::SetVector<Operation *> seen;
  seen.insert(start);
  for (size_t i = 0; i < seen.size(); ++i) {
    Operation *op = seen[i];
    SmallVector<Operation *> next;
    if (!isBackward)
      next.append(op->user_begin(), op->user_end());
    else if (Operation *input = op->getOperand(0).getDefiningOp())
      next.push_back(input); // Operand 0 is the input of all of them.
    for (Operation *other : next) {
      if (Place place = getPlace(other); place != Place::Unknown)
        return place;
      if (isPassedThrough(other))
        seen.insert(other);
    }
  }
  return Place::Unknown;
}

/// The gated network that \p op is part of, by the swiglu that it feeds or that
/// feeds it.
static SwiGLUOp findSwiGLU(LinearOp op) {
  SmallVector<Operation *> users(op->user_begin(), op->user_end());
  for (size_t i = 0; i < users.size(); ++i) {
    if (auto swiglu = dyn_cast<SwiGLUOp>(users[i]))
      return swiglu;
    if (isa<SplitOp>(users[i]))
      users.append(users[i]->user_begin(), users[i]->user_end());
  }
  return op.getInput().getDefiningOp<SwiGLUOp>();
}

/// True if the gated network of \p op reads what an experts op reads: it is the
/// expert that all tokens share.
static bool isShared(LinearOp op) {
  SwiGLUOp swiglu = findSwiGLU(op);
  if (!swiglu)
    return false;
  Operation *gate = swiglu.getGate().getDefiningOp();
  if (auto split = dyn_cast_or_null<SplitOp>(gate))
    gate = split.getInput().getDefiningOp();
  auto linear = dyn_cast_or_null<LinearOp>(gate);
  return linear &&
         llvm::any_of(linear.getInput().getUsers(), [&](Operation *user) {
           auto experts = dyn_cast<ExpertsOp>(user);
           return experts && experts.getInput() == linear.getInput();
         });
}

static std::optional<WeightClass> classifyByName(StringRef name) {
  if (name.contains("shared_expert"))
    return WeightClass::Shared;
  if (name.contains("attn") || name.contains("attention"))
    return WeightClass::Attention;
  if (name.contains("mlp") || name.contains("ffn"))
    return WeightClass::FFN;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Weights that must be stored alike
//===----------------------------------------------------------------------===//

namespace {

/// Weights of one type: those that are passed for one argument, and the values
/// that they have in functions.
struct Family {
  SmallVector<WeightOp> weights;
  SmallVector<UseWeightOp> uses;
  SmallVector<BlockArgument> arguments;
  /// The products that read them.
  SmallVector<OpOperand *> readers;
  /// Why they stay as they are, if a product reads them; empty: they need not.
  std::string obstacle;
  /// Of FP8 weights, in the order of `weights`.
  SmallVector<WeightOp> blockScales;

  QuantizedType wanted;
  bool isWanted = false; ///< The scheme may want them quantized.
  int64_t group = 0;     ///< 0: they stay as they are.

  RankedTensorType getType() const {
    return cast<RankedTensorType>(readers.front()->get().getType());
  }
  RankedTensorType getQuantizedType() const {
    RankedTensorType type = getType();
    return type.clone(
        IntegerType::get(type.getContext(), unsigned(wanted.bits)));
  }
  RankedTensorType getScalesType() const {
    RankedTensorType type = getType();
    SmallVector<int64_t> shape(type.getShape());
    shape.back() /= group;
    return RankedTensorType::get(shape, Float16Type::get(type.getContext()));
  }
  void refuse(const Twine &why) {
    if (obstacle.empty())
      obstacle = why.str();
  }
  /// "'name'", or "'name' and 2 like it".
  std::string getName() {
    if (weights.empty())
      return "a weight";
    std::string name = ("'" + weights.front().getSymName() + "'").str();
    if (weights.size() > 1)
      name += (" and " + Twine(weights.size() - 1) + " like it").str();
    return name;
  }
  Location getLoc() {
    return weights.empty() ? readers.front()->getOwner()->getLoc()
                           : weights.front().getLoc();
  }
};

struct Quantize : public hadal::impl::QuantizeBase<Quantize> {
  using QuantizeBase::QuantizeBase;

  void runOnOperation() override;

private:
  void findFamilies();
  void collectFunction(func::FuncOp function);
  void collectUses(Value value, Family &family);
  void findBlockScales(Family &family);
  WeightOp findBlockScales(Value weight, Value scales, WeightOp of);

  /// The family of \p value; null if it is no weight, but computed.
  Family *findFamily(Value value) {
    auto leader = unions.findLeader(value.getAsOpaquePointer());
    if (leader == unions.member_end())
      return nullptr;
    auto *it = families.find(*leader);
    return it == families.end() ? nullptr : &it->second;
  }

  std::optional<WeightClass> classify(OpOperand &reader, Family &family,
                                      bool &isRouter);
  void choose(Family &family);
  void matchExperts();
  void remark(Family &family);

  LogicalResult quantizeRecipe(Family &family, size_t index);
  FailureOr<WeightOp> findStatistic(WeightOp weight, StringRef name,
                                    size_t dimensions);
  void addValues();
  void rewriteCalls();
  void rewriteReader(Operation *op);
  void eraseBlockScales();
  void renameScales();

  Family &familyOf(Value value) {
    return families[unions.getLeaderValue(value.getAsOpaquePointer())];
  }

  QuantizeScheme parsed;
  RoundingMethod rounding = RoundingMethod::Nearest;
  SymbolTable *symbols = nullptr;
  /// Of weights, uses of them, and arguments, by their opaque pointers.
  llvm::EquivalenceClasses<void *> unions;
  llvm::MapVector<void *, Family> families;
  llvm::MapVector<Operation *, SmallVector<func::CallOp>> callsOf;
  /// Functions that may be called from where no one sees.
  llvm::SmallPtrSet<Operation *, 4> isOpen;
  llvm::MapVector<Operation *, WeightOp> scalesOfWeight;
  /// Of every argument and every value of a family that is rewritten.
  DenseMap<Value, Type> scalesTypes;
  DenseMap<Value, Value> scalesOf;
  SmallVector<Value> oldScales;
};

} // namespace

static bool isWeightType(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.hasStaticShape();
}

/// The matrices that \p op multiplies by, or looks rows up in.
static SmallVector<OpOperand *> getMatrices(Operation *op) {
  return llvm::TypeSwitch<Operation *, SmallVector<OpOperand *>>(op)
      .Case<LinearOp, HeadLinearOp, LMHeadOp>([](auto op) {
        return SmallVector<OpOperand *>{&op.getWeightMutable()};
      })
      .Case([](EmbedOp op) {
        return SmallVector<OpOperand *>{&op.getTableMutable()};
      })
      .Case([](ExpertsOp op) {
        return SmallVector<OpOperand *>{
            &op.getGateMutable(), &op.getUpMutable(), &op.getDownMutable()};
      })
      .Default([](auto) { return SmallVector<OpOperand *>(); });
}

/// The scales that the matrix \p reader has; null if it has none.
static Value getScales(OpOperand &reader) {
  return llvm::TypeSwitch<Operation *, Value>(reader.getOwner())
      .Case<EmbedOp, LinearOp, HeadLinearOp, LMHeadOp>(
          [](auto op) { return op.getScales(); })
      .Case([&](ExpertsOp op) -> Value {
        if (op.getScales().empty())
          return nullptr;
        unsigned first = op.getGateMutable().getOperandNumber();
        return op.getScales()[reader.getOperandNumber() - first];
      });
}

void Quantize::findFamilies() {
  ModuleOp module = getOperation();
  std::optional<SymbolTable::UseRange> references =
      SymbolTable::getSymbolUses(&module.getBodyRegion());
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    callsOf[function];
    if (function.isPublic() || !references)
      isOpen.insert(function);
  }
  module.walk([&](func::CallOp call) {
    auto callee = symbols->lookup<func::FuncOp>(call.getCallee());
    if (callee && !callee.isExternal())
      callsOf[callee].push_back(call);
    if (callee && call.getArgAttrsAttr())
      isOpen.insert(callee);
  });
  if (references)
    for (SymbolTable::SymbolUse reference : *references)
      if (!isa<func::CallOp>(reference.getUser()))
        isOpen.insert(
            symbols->lookup(reference.getSymbolRef().getRootReference()));
  for (auto &[op, calls] : callsOf)
    if (calls.empty())
      isOpen.insert(op);

  // What stands for one weight, or for several of one type.
  module.walk([&](UseWeightOp use) {
    if (auto weight = symbols->lookup<WeightOp>(use.getName()))
      unions.unionSets(use.getResult().getAsOpaquePointer(),
                       weight.getOperation());
  });
  for (auto &[op, calls] : callsOf)
    for (BlockArgument argument : cast<func::FuncOp>(op).getArguments()) {
      if (!isWeightType(argument.getType()))
        continue;
      unions.insert(argument.getAsOpaquePointer());
      for (func::CallOp call : calls)
        unions.unionSets(
            call.getOperand(argument.getArgNumber()).getAsOpaquePointer(),
            argument.getAsOpaquePointer());
    }

  // Weights in the order of the module, so that remarks are, too.
  for (auto weight : module.getOps<WeightOp>()) {
    auto leader = unions.findLeader(weight.getOperation());
    if (leader != unions.member_end())
      families[*leader].weights.push_back(weight);
  }
  for (auto &entry : callsOf)
    collectFunction(cast<func::FuncOp>(entry.first));
  families.remove_if([](auto &entry) { return entry.second.readers.empty(); });
}

void Quantize::collectFunction(func::FuncOp function) {
  for (BlockArgument argument : function.getArguments()) {
    if (!isWeightType(argument.getType()))
      continue;
    Family &family = familyOf(argument);
    family.arguments.push_back(argument);
    if (isOpen.contains(function))
      family.refuse("it is an argument of a function whose callers are not "
                    "known");
    for (func::CallOp call : callsOf[function]) {
      Value passed = call.getOperand(argument.getArgNumber());
      if (!isa<BlockArgument>(passed) && !passed.getDefiningOp<UseWeightOp>())
        family.refuse("it is an argument for which a call passes no weight");
    }
    collectUses(argument, family);
  }
  function.walk([&](UseWeightOp use) {
    Family &family = familyOf(use.getResult());
    family.uses.push_back(use);
    collectUses(use.getResult(), family);
  });
}

void Quantize::collectUses(Value value, Family &family) {
  // Uses are listed from the last.
  SmallVector<OpOperand *> uses;
  for (OpOperand &use : value.getUses())
    uses.push_back(&use);
  for (OpOperand *use : llvm::reverse(uses)) {
    Operation *op = use->getOwner();
    if (llvm::is_contained(getMatrices(op), use)) {
      family.readers.push_back(use);
    } else if (auto call = dyn_cast<func::CallOp>(op)) {
      auto callee = symbols->lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isExternal())
        family.refuse("it is passed to a function without a body");
    } else {
      family.refuse("'" + op->getName().getStringRef() + "' reads it, too");
    }
  }
}

/// The weight that is \p scales where \p weight is \p of; null if there is none
/// or more than one.
WeightOp Quantize::findBlockScales(Value weight, Value scales, WeightOp of) {
  if (auto use = weight.getDefiningOp<UseWeightOp>()) {
    auto scalesUse = scales.getDefiningOp<UseWeightOp>();
    if (use.getName() != of.getSymName() || !scalesUse)
      return nullptr;
    return symbols->lookup<WeightOp>(scalesUse.getName());
  }
  auto argument = dyn_cast<BlockArgument>(weight);
  auto scalesArgument = dyn_cast<BlockArgument>(scales);
  if (!argument || !scalesArgument ||
      argument.getOwner() != scalesArgument.getOwner())
    return nullptr;
  WeightOp found;
  for (func::CallOp call : callsOf[argument.getOwner()->getParentOp()]) {
    WeightOp here =
        findBlockScales(call.getOperand(argument.getArgNumber()),
                        call.getOperand(scalesArgument.getArgNumber()), of);
    if (here && found && here != found)
      return nullptr;
    if (here)
      found = here;
  }
  return found;
}

/// Finds the scales of each FP8 weight of \p family: they become part of its
/// recipe.
void Quantize::findBlockScales(Family &family) {
  for (WeightOp weight : family.weights) {
    WeightOp found;
    for (OpOperand *reader : family.readers) {
      WeightOp here =
          findBlockScales(reader->get(), getScales(*reader), weight);
      if (here && found && here != found)
        return family.refuse("it has different scales in different places");
      if (here)
        found = here;
    }
    if (!found)
      return family.refuse("its scales are not known");
    family.blockScales.push_back(found);
  }
}

//===----------------------------------------------------------------------===//
// Choosing
//===----------------------------------------------------------------------===//

std::optional<WeightClass> Quantize::classify(OpOperand &reader, Family &family,
                                              bool &isRouter) {
  Operation *op = reader.getOwner();
  if (isa<ExpertsOp>(op))
    return WeightClass::Experts;
  if (isa<LMHeadOp>(op))
    return WeightClass::Head;
  if (isa<EmbedOp>(op))
    return WeightClass::Embedding;
  if (isa<HeadLinearOp>(op))
    return WeightClass::Heads;
  auto linear = cast<LinearOp>(op);
  Place place = findPlace(op, /*isBackward=*/false);
  if (place == Place::Unknown)
    place = findPlace(op, /*isBackward=*/true);
  switch (place) {
  case Place::Router:
    isRouter = true;
    return std::nullopt;
  case Place::Attention:
    return WeightClass::Attention;
  case Place::FFN:
    return isShared(linear) ? WeightClass::Shared : WeightClass::FFN;
  case Place::Unknown:
    break;
  }
  if (family.weights.empty())
    return std::nullopt;
  return classifyByName(family.weights.front().getSymName());
}

/// Decides how \p family is stored.
void Quantize::choose(Family &family) {
  RankedTensorType type = family.getType();
  if (type.getElementType().isInteger())
    return;
  bool isRouter = false, hasClass = false;
  // A table that is multiplied by, too, is what it is there.
  bool isTable = llvm::all_of(family.readers, [](OpOperand *reader) {
    return isa<EmbedOp>(reader->getOwner());
  });
  for (OpOperand *reader : family.readers) {
    if (isa<EmbedOp>(reader->getOwner()) && !isTable)
      continue;
    std::optional<WeightClass> of = classify(*reader, family, isRouter);
    if (isRouter)
      return;
    // What is not known may be as delicate as a router.
    if (!of)
      family.refuse("nothing says what it is part of");
    QuantizedType wanted = of ? parsed[*of] : QuantizedType();
    if (hasClass && !(wanted == family.wanted))
      family.refuse("it is part of several classes");
    hasClass = true;
    family.isWanted |= !of || wanted.bits;
    family.wanted = wanted;
  }
  if (!family.isWanted)
    return;
  if (type.getEncoding())
    family.refuse("it has a layout already");
  if (isa<Float8E4M3FNType>(type.getElementType()))
    findBlockScales(family);
  if (!family.obstacle.empty())
    return;
  int64_t columns = type.getShape().back();
  int64_t wanted = family.wanted.group ? family.wanted.group : columns;
  if (columns % wanted == 0 && wanted % groupSizes[2] == 0)
    family.group = wanted;
  for (int64_t group : groupSizes)
    if (!family.group && group <= wanted && columns % group == 0)
      family.group = group;
  if (!family.group)
    family.refuse("rows of " + Twine(columns) + " are no multiple of 32");
}

/// Takes back what was chosen for experts of which one matrix stays: the op
/// wants all three of one type.
void Quantize::matchExperts() {
  SmallVector<ExpertsOp> all;
  getOperation().walk([&](ExpertsOp experts) { all.push_back(experts); });
  for (bool hasChanged = true; hasChanged;) {
    hasChanged = false;
    for (ExpertsOp experts : all) {
      SmallVector<Family *> three;
      for (OpOperand *matrix : getMatrices(experts))
        three.push_back(findFamily(matrix->get()));
      bool isWhole = llvm::all_of(three, [&](Family *family) {
        return family && family->group &&
               family->wanted.bits == three.front()->wanted.bits;
      });
      for (Family *family : three) {
        if (isWhole || !family || !family->group)
          continue;
        family->group = 0;
        family->refuse("another matrix of its experts stays");
        hasChanged = true;
      }
    }
  }
}

/// Says what is not as the scheme wants it.
void Quantize::remark(Family &family) {
  if (!family.isWanted)
    return;
  if (!family.obstacle.empty()) {
    emitRemark(family.getLoc())
        << "cannot quantize " << family.getName() << ": " << family.obstacle;
    ++numDeclined;
    return;
  }
  if (family.wanted.group && family.group != family.wanted.group)
    emitRemark(family.getLoc())
        << "groups of " << family.group << ", not " << family.wanted.group
        << ", for " << family.getName() << ": it has rows of "
        << family.getType().getShape().back();
}

//===----------------------------------------------------------------------===//
// Rewriting
//===----------------------------------------------------------------------===//

/// Copies the recipe of \p of to where \p builder is; null if there is none.
static Value inlineRecipe(OpBuilder &builder, WeightOp of) {
  if (!of)
    return nullptr;
  IRMapping mapping;
  Block &recipe = of.getRecipe().front();
  for (Operation &op : recipe.without_terminator())
    builder.clone(op, mapping);
  return mapping.lookup(cast<YieldOp>(recipe.getTerminator()).getValue());
}

/// The statistic \p name of \p weight, of input channels in \p dimensions;
/// null, after a remark, if there is none.
FailureOr<WeightOp> Quantize::findStatistic(WeightOp weight, StringRef name,
                                            size_t dimensions) {
  auto found = symbols->lookup<WeightOp>(
      ("statistics." + weight.getSymName() + "." + name).str());
  if (!found) {
    emitRemark(weight.getLoc())
        << "rounds '" << weight.getSymName()
        << "' without the second moments of its inputs (" << name
        << "): there are none";
    return found;
  }
  ArrayRef<int64_t> shape = weight.getWeightType().getShape();
  SmallVector<int64_t> one(dimensions, shape.back()), each(one);
  each.insert(each.begin(), shape.front());
  ArrayRef<int64_t> got = found.getWeightType().getShape();
  if (got == ArrayRef(one) || (shape.size() == 3 && got == ArrayRef(each)))
    return found;
  return emitError(weight.getLoc())
         << "the statistics are of another model: those of '"
         << weight.getSymName() << "', " << weight.getWeightType() << ", are "
         << found.getWeightType();
}

/// Ends the recipe of one weight of \p family in rounding, and declares the
/// weight of its scales.
LogicalResult Quantize::quantizeRecipe(Family &family, size_t index) {
  WeightOp weight = family.weights[index];
  Location loc = weight.getLoc();
  FailureOr<WeightOp> moment = WeightOp(), gram = WeightOp();
  bool hasStatistics = rounding != RoundingMethod::Nearest &&
                       llvm::any_of(family.readers, [](OpOperand *reader) {
                         return !isa<EmbedOp, HeadLinearOp>(reader->getOwner());
                       });
  if (hasStatistics && family.group > maxWeightedGroup)
    emitRemark(loc) << "rounds '" << weight.getSymName()
                    << "' to nearest: groups of " << family.group
                    << " have too many weights to judge";
  else if (hasStatistics)
    moment = findStatistic(weight, "moment", 1);
  if (hasStatistics && rounding == RoundingMethod::ErrorFeedback)
    gram = findStatistic(weight, "gram", 2);
  if (failed(moment) || failed(gram))
    return failure();
  if (*moment || *gram)
    ++numCalibrated;
  auto yield = cast<YieldOp>(weight.getRecipe().front().back());
  OpBuilder builder(yield);
  if (!family.blockScales.empty()) {
    Value scales = inlineRecipe(builder, family.blockScales[index]);
    Type type = RankedTensorType::get(weight.getWeightType().getShape(),
                                      builder.getF32Type());
    yield.getValueMutable().assign(
        DequantizeOp::create(builder, loc, type, yield.getValue(), scales,
                             fp8BlockSize, fp8BlockSize, /*unchecked=*/false));
  }

  std::string name = (weight.getSymName() + ".scales").str();
  RankedTensorType type = family.getScalesType();
  builder.clearInsertionPoint();
  auto scales = WeightOp::create(builder, loc, name, type);
  scales->setDiscardableAttrs(weight->getDiscardableAttrDictionary());
  IRMapping mapping;
  weight.getRecipe().cloneInto(&scales.getRecipe(), mapping);
  auto scalesYield = cast<YieldOp>(scales.getRecipe().front().back());
  builder.setInsertionPoint(scalesYield);
  Value factors = inlineRecipe(builder, *moment);
  scalesYield.getValueMutable().assign(QuantizeScalesOp::create(
      builder, loc, type, scalesYield.getValue(), factors, family.wanted.bits));
  symbols->insert(scales, std::next(weight->getIterator()));
  scalesOfWeight[weight] = scales;

  type = family.getQuantizedType();
  builder.setInsertionPoint(yield);
  factors = inlineRecipe(builder, *moment);
  Value products = inlineRecipe(builder, *gram);
  yield.getValueMutable().assign(QuantizeOp::create(
      builder, loc, type, yield.getValue(), factors, products, family.group,
      products ? builder.getF64FloatAttr(gramDamping) : FloatAttr()));
  weight.setType(type);
  ++numQuantized;
  return success();
}

/// Gives every use and every argument the new type, and one more beside it for
/// the scales.
void Quantize::addValues() {
  llvm::MapVector<Operation *, SmallVector<BlockArgument>> argumentsOf;
  for (auto &[key, family] : families) {
    if (!family.group)
      continue;
    RankedTensorType type = family.getQuantizedType();
    RankedTensorType scalesType = family.getScalesType();
    for (UseWeightOp use : family.uses) {
      WeightOp scales =
          scalesOfWeight[symbols->lookup<WeightOp>(use.getName())];
      OpBuilder builder(use->getContext());
      builder.setInsertionPointAfter(use);
      scalesOf[use.getResult()] = UseWeightOp::create(
          builder, use.getLoc(), scalesType, scales.getSymName());
    }
    for (BlockArgument argument : family.arguments) {
      argumentsOf[argument.getOwner()->getParentOp()].push_back(argument);
      scalesTypes[argument] = scalesType;
    }
    for (UseWeightOp use : family.uses)
      use.getResult().setType(type);
    for (BlockArgument argument : family.arguments)
      argument.setType(type);
  }
  for (auto &[op, arguments] : argumentsOf) {
    auto function = cast<func::FuncOp>(op);
    // From the last, so that the indices of those before do not change.
    llvm::sort(arguments, [](BlockArgument a, BlockArgument b) {
      return a.getArgNumber() > b.getArgNumber();
    });
    for (BlockArgument argument : arguments) {
      unsigned index = argument.getArgNumber() + 1;
      if (failed(function.insertArgument(index, scalesTypes[argument], {},
                                         argument.getLoc())))
        llvm_unreachable("the type of a func.func can always be replaced");
      scalesOf[argument] = function.getArgument(index);
    }
    function.setFunctionType(
        FunctionType::get(&getContext(), function.getBody().getArgumentTypes(),
                          function.getFunctionType().getResults()));
  }
}

void Quantize::rewriteCalls() {
  for (auto &[op, calls] : callsOf)
    for (func::CallOp call : calls) {
      SmallVector<Value> operands;
      for (Value operand : call.getOperands()) {
        operands.push_back(operand);
        if (Value scales = scalesOf.lookup(operand))
          operands.push_back(scales);
      }
      call->setOperands(operands);
    }
}

/// Gives \p op the scales of its matrices, if they are quantized.
void Quantize::rewriteReader(Operation *op) {
  SmallVector<Value> scales;
  int64_t activationGroup = groupSizes[0];
  for (OpOperand *matrix : getMatrices(op)) {
    Value found = scalesOf.lookup(matrix->get());
    if (!found)
      return;
    scales.push_back(found);
    if (Value old = getScales(*matrix))
      oldScales.push_back(old);
    int64_t group = familyOf(matrix->get()).group;
    while (group % activationGroup != 0)
      activationGroup /= 2; // A group is a multiple of the smallest, 32.
  }
  llvm::TypeSwitch<Operation *>(op)
      .Case<EmbedOp, HeadLinearOp>(
          [&](auto op) { op.getScalesMutable().assign(scales); })
      .Case<LinearOp, LMHeadOp, ExpertsOp>([&](auto op) {
        op.getScalesMutable().assign(scales);
        op.setActivationGroup(activationGroup);
      });
}

/// Erases the scales of FP8 blocks that nothing reads any more: in recipes they
/// still are.
void Quantize::eraseBlockScales() {
  llvm::SetVector<Operation *> unused;
  DenseSet<Value> erased;
  SmallVector<Value> worklist = std::move(oldScales);
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (erased.contains(value) || !value.use_empty())
      continue;
    if (auto use = value.getDefiningOp<UseWeightOp>()) {
      unused.insert(symbols->lookup<WeightOp>(use.getName()));
      erased.insert(value);
      use.erase();
      continue;
    }
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || isOpen.contains(argument.getOwner()->getParentOp()))
      continue;
    auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
    unsigned index = argument.getArgNumber();
    for (func::CallOp call : callsOf[function]) {
      worklist.push_back(call.getOperand(index));
      call->eraseOperand(index);
    }
    erased.insert(value);
    if (failed(function.eraseArgument(index)))
      llvm_unreachable("the type of a func.func can always be replaced");
  }
  getOperation().walk([&](UseWeightOp use) {
    unused.remove(symbols->lookup<WeightOp>(use.getName()));
  });
  for (Operation *weight : unused)
    symbols->erase(weight);
}

/// Gives the new scales the name that those of FP8 blocks may have had.
void Quantize::renameScales() {
  DenseMap<StringAttr, StringAttr> renamed;
  for (auto &[op, scales] : scalesOfWeight) {
    std::string name = (cast<WeightOp>(op).getSymName() + ".scales").str();
    if (scales.getSymName() == name || symbols->lookup(name))
      continue;
    StringAttr old = scales.getSymNameAttr();
    symbols->remove(scales);
    scales.setSymName(name);
    symbols->insert(scales);
    renamed[old] = scales.getSymNameAttr();
  }
  if (renamed.empty())
    return;
  getOperation().walk([&](UseWeightOp use) {
    if (StringAttr name = renamed.lookup(use.getNameAttr().getAttr()))
      use.setNameAttr(FlatSymbolRefAttr::get(name));
  });
}

void Quantize::runOnOperation() {
  std::string error;
  std::optional<QuantizeScheme> given = parseQuantizeScheme(scheme, error);
  if (!given) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  parsed = *given;
  std::optional<RoundingMethod> givenMethod =
      parseRoundingMethod(method, error);
  if (!givenMethod) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  rounding = *givenMethod;
  SymbolTable table(getOperation());
  symbols = &table;
  unions = {};
  families.clear();
  callsOf.clear();
  isOpen.clear();
  scalesOfWeight.clear();
  scalesTypes.clear();
  scalesOf.clear();
  oldScales.clear();

  findFamilies();
  for (auto &[key, family] : families)
    choose(family);
  matchExperts();
  // Before rewriting, since it reads the types.
  for (auto &[key, family] : families)
    remark(family);

  llvm::SetVector<Operation *> readers;
  for (auto &[key, family] : families) {
    if (!family.group)
      continue;
    for (size_t i = 0; i < family.weights.size(); ++i)
      if (failed(quantizeRecipe(family, i)))
        return signalPassFailure();
    for (OpOperand *reader : family.readers)
      readers.insert(reader->getOwner());
  }
  if (readers.empty())
    return markAllAnalysesPreserved();
  addValues();
  rewriteCalls();
  for (Operation *reader : readers)
    rewriteReader(reader);
  eraseBlockScales();
  renameScales();
}
