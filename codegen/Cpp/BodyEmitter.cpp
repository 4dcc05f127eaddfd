// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statements: what is declared, what is folded into what uses it, and in which
// order. Expressions are in Expressions.cpp.

#include "codegen/Cpp/BodyEmitter.h"

#include "codegen/RegisterArrays.h"
#include "codegen/SourceNames.h"
#include "dialects/RT/IR/RTOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/SaveAndRestore.h"

#include <functional>

using namespace mlir;
using namespace hadal;

/// An expression that is longer gets a name.
constexpr size_t maxExpressionLength = 64;

static bool isStore(Operation *op) {
  return isa<memref::StoreOp, vector::StoreOp, vector::MaskedStoreOp>(op);
}

/// True if \p op, or an op in it, may change memory that a load reads.
static bool writesMemory(Operation *op) {
  WalkResult result = op->walk([](Operation *inner) {
    if (isStore(inner))
      return WalkResult::interrupt();
    bool isHarmless =
        isMemoryEffectFree(inner) || inner->hasTrait<OpTrait::IsTerminator>() ||
        isa<memref::PrefetchOp, memref::AllocaOp, memref::LoadOp,
            vector::LoadOp, vector::MaskedLoadOp, scf::ForOp, scf::IfOp>(inner);
    return isHarmless ? WalkResult::advance() : WalkResult::interrupt();
  });
  return result.wasInterrupted();
}

static bool readsMemory(Operation *op) {
  return isa<memref::LoadOp, vector::LoadOp, vector::MaskedLoadOp>(op);
}

/// The type of a vector of an array of registers.
static std::string getRegisterType(MemRefType type) {
  return getCppType(
      VectorType::get(type.getShape().drop_front(), type.getElementType()));
}

/// Whether \p loop counts the vectors of an array.
static bool countsRegisters(scf::ForOp loop) {
  return llvm::any_of(loop.getInductionVar().getUsers(), [](Operation *user) {
    if (auto load = dyn_cast<vector::LoadOp>(user))
      return isRegisterArray(load.getBase());
    auto store = dyn_cast<vector::StoreOp>(user);
    return store && isRegisterArray(store.getBase());
  });
}

bool BodyEmitter::isWritten(Value memref) {
  return llvm::any_of(memref.getUsers(), [&](Operation *user) {
    if (auto store = dyn_cast<memref::StoreOp>(user))
      return store.getMemRef() == memref;
    if (auto store = dyn_cast<vector::StoreOp>(user))
      return store.getBase() == memref;
    if (auto store = dyn_cast<vector::MaskedStoreOp>(user))
      return store.getBase() == memref;
    if (auto attention = dyn_cast<rt::BlockAttentionOp>(user))
      return llvm::is_contained(attention.getResults(), memref);
    return false;
  });
}

//===----------------------------------------------------------------------===//
// What becomes part of what
//===----------------------------------------------------------------------===//

SmallVector<Value> BodyEmitter::operandsOf(Operation *op) const {
  auto idiom = idioms.find(op);
  if (idiom != idioms.end())
    return idiom->second.operands;
  return SmallVector<Value>(op->getOperands());
}

void BodyEmitter::analyze(Region &region) {
  // From the outside in: a tree that ends in another is part of that one.
  SmallVector<Operation *> ops;
  region.walk([&](Operation *op) { ops.push_back(op); });
  for (Operation *op : llvm::reverse(ops)) {
    // Where many threads wait for memory, they hide each other's waits.
    if (sharesLanes && isa<memref::PrefetchOp>(op))
      absorbed.insert(op);
    if (absorbed.contains(op))
      continue;
    if (auto idiom = program.words().find(op)) {
      absorbed.insert(idiom->parts.begin(), idiom->parts.end());
      idioms[op] = std::move(*idiom);
    }
  }
  // What only absorbed ops use is gone as well.
  for (Operation *op : llvm::reverse(ops)) {
    if (absorbed.contains(op))
      continue;
    bool isDead =
        op->getNumResults() != 0 && isMemoryEffectFree(op) &&
        llvm::none_of(op->getResults(), [&](Value v) { return isUsed(v); });
    if (isDead) {
      absorbed.insert(op);
      continue;
    }
    for (Value operand : operandsOf(op))
      ++useCounts[operand];
  }
  for (Block &block : region)
    analyzeBlock(block);
  region.walk([&](Operation *op) {
    for (Region &inner : op->getRegions())
      for (Block &block : inner)
        analyzeBlock(block);
  });
}

void BodyEmitter::analyzeBlock(Block &block) {
  unsigned position = 0;
  for (Operation &op : block) {
    positions[&op] = position++;
    if (writesMemory(&op))
      writes[&block].push_back(positions[&op]);
  }
  // Users first, so that it is known which statement they are part of.
  llvm::DenseMap<Value, Operation *> users;
  for (Operation &op : llvm::reverse(block)) {
    if (absorbed.contains(&op))
      continue;
    if (op.getNumResults() == 1 && useCounts.lookup(op.getResult(0)) == 1)
      if (Operation *user = users.lookup(op.getResult(0)))
        if (canMove(&op, user)) {
          auto root = roots.find(user);
          roots[&op] = root == roots.end() ? user : root->second;
        }
    for (Value operand : operandsOf(&op))
      users[operand] = &op;
  }
}

/// True if \p op, which \p user alone uses, may be computed where that is.
bool BodyEmitter::canMove(Operation *op, Operation *user) const {
  if (op->getNumRegions() != 0 ||
      (user->getNumResults() > 1 && !isa<scf::ForOp, scf::IfOp>(user)))
    return false;
  // Bounds are computed again in each round.
  Value value = op->getResult(0);
  if (auto loop = dyn_cast<scf::ForOp>(user))
    if (value == loop.getUpperBound() || value == loop.getStep())
      return false;
  if (isMemoryEffectFree(op))
    return true;
  if (!readsMemory(op))
    return false;
  auto found = roots.find(user);
  unsigned end = positions.lookup(found == roots.end() ? user : found->second);
  auto list = writes.find(op->getBlock());
  if (list == writes.end())
    return true;
  return llvm::none_of(list->second, [&](unsigned write) {
    return write > positions.lookup(op) && write < end;
  });
}

/// True if the result of \p op is no more than what a variable is assigned.
bool BodyEmitter::isYielded(Operation *op) const {
  auto yield = dyn_cast<scf::YieldOp>(roots.lookup(op));
  return yield && llvm::is_contained(yield.getOperands(), op->getResult(0));
}

void BodyEmitter::define(Value value, CppExpression expression) {
  if (!isUsed(value))
    return;
  Operation *op = value.getDefiningOp();
  if (op && roots.count(op) &&
      (expression.text.size() <= maxExpressionLength || isYielded(op))) {
    inlined.insert(op);
    if (expression.text.size() > maxExpressionLength)
      yieldedLines[op] = 1 + expression.text.size() / maxExpressionLength;
    return bind(value, std::move(expression));
  }
  std::string name = names.get(hint(value));
  writer.line("const " + getCppType(value.getType()) + " " + name + " = " +
              expression.text + ";");
  bind(value, {name});
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

LogicalResult BodyEmitter::emitBlock(Block &block) {
  SmallVector<Operation *> ops;
  for (Operation &op : block.without_terminator())
    ops.push_back(&op);
  return emitOps(ops);
}

LogicalResult BodyEmitter::emitOps(ArrayRef<Operation *> ops) {
  for (; !ops.empty(); ops = ops.drop_front()) {
    Operation *op = ops.front();
    auto found = parts.find(op);
    if (found != parts.end() && op != part) {
      if (failed(emitPart(op, found->second)))
        return failure();
      while (ops.front() != found->second.last)
        ops = ops.drop_front();
      continue;
    }
    unsigned before = writer.lineCount();
    if (!absorbed.contains(op) && failed(emitOp(op)))
      return failure();
    lines[op] = writer.lineCount() - before + yieldedLines.lookup(op);
  }
  return success();
}

LogicalResult BodyEmitter::emitOp(Operation *op) {
  if (isa<scf::ForOp>(op))
    return emitFor(op);
  if (isa<scf::IfOp>(op))
    return emitIf(op);
  if (isStore(op))
    return emitStore(op);
  if (isa<memref::PrefetchOp>(op)) {
    auto prefetch = cast<memref::PrefetchOp>(op);
    writer.line("prefetch(" +
                address(prefetch.getMemref(), prefetch.getIndices()) + ");");
    return success();
  }
  if (auto alloca = dyn_cast<memref::AllocaOp>(op)) {
    MemRefType type = alloca.getType();
    std::string element = getCppElement(type.getElementType());
    if (!type.hasStaticShape() || !type.getLayout().isIdentity() ||
        element.empty())
      return op->emitOpError("has no form in C++: ") << type;
    std::string name = names.get(hint(alloca));
    writer.line(isRegisterArray(alloca)
                    ? getRegisterType(type) + " " + name + "[" +
                          std::to_string(type.getDimSize(0)) + "];"
                    : declareBuffer(name, type));
    bind(alloca, {name});
    return success();
  }
  if (!isa<arith::ArithDialect, math::MathDialect, vector::VectorDialect,
           memref::MemRefDialect>(op->getDialect()))
    return emitOther(op);
  // Written by the stores that it is for.
  if (isa<vector::CreateMaskOp, vector::ConstantMaskOp>(op) &&
      llvm::all_of(op->getUsers(), [](Operation *user) {
        return isa<vector::MaskedStoreOp>(user);
      }))
    return success();
  for (Type type : op->getResultTypes())
    if (getCppType(type).empty())
      return op->emitOpError("has no form in C++: it has a result of type ")
             << type;
  if (auto halves = dyn_cast<vector::DeinterleaveOp>(op)) {
    for (auto [i, result] : llvm::enumerate(op->getResults()))
      define(result, {"every<2, " + std::to_string(i) + ">(" +
                      text(halves.getSource()) + ")"});
    return success();
  }
  if (op->getNumResults() == 1)
    if (auto expression = express(op)) {
      // Small enough to be written wherever they are used.
      if (isa<arith::ConstantOp>(op) || isSmallSum(op)) {
        inlined.insert(op);
        bind(op->getResult(0), *expression);
      } else {
        define(op->getResult(0), *expression);
      }
      return success();
    }
  return emitOther(op);
}

std::string BodyEmitter::loadVector(Operation *op) {
  auto load = cast<vector::LoadOp>(op);
  if (isRegisterArray(load.getBase()))
    return text(load.getBase()) + "[" + text(load.getIndices().front()) + "]";
  return "load<" + getCppType(load.getType()) + ">(" +
         address(load.getBase(), load.getIndices()) + ")";
}

std::string BodyEmitter::declareBuffer(StringRef name, MemRefType type) {
  std::string size;
  for (int64_t dim : type.getShape())
    size += (size.empty() ? "" : " * ") + std::to_string(dim);
  return "alignas(64) " + getCppElement(type.getElementType()) + " " +
         name.str() + "[" + (size.empty() ? "1" : size) + "];";
}

LogicalResult BodyEmitter::emitStore(Operation *op) {
  if (auto store = dyn_cast<memref::StoreOp>(op)) {
    if (sharesLanes) {
      writer.line("put(" + address(store.getMemRef(), store.getIndices()) +
                  ", " + text(store.getValueToStore()) + ");");
      return success();
    }
    writer.line(subscript(store.getMemRef(), store.getIndices()) + " = " +
                text(store.getValueToStore()) + ";");
    return success();
  }
  if (auto store = dyn_cast<vector::StoreOp>(op)) {
    if (isRegisterArray(store.getBase())) {
      writer.line(text(store.getBase()) + "[" +
                  text(store.getIndices().front()) +
                  "] = " + text(store.getValueToStore()) + ";");
      return success();
    }
    writer.line("store(" + address(store.getBase(), store.getIndices()) + ", " +
                text(store.getValueToStore()) + ");");
    return success();
  }
  auto store = cast<vector::MaskedStoreOp>(op);
  Value mask = store.getMask();
  std::string count;
  if (auto some = mask.getDefiningOp<vector::CreateMaskOp>())
    count = text(some.getOperand(0));
  else if (auto some = mask.getDefiningOp<vector::ConstantMaskOp>())
    count = std::to_string(some.getMaskDimSizes()[0]);
  else
    return op->emitOpError("has no form in C++: the mask is not one of the "
                           "first lanes");
  writer.line("store_first(" + address(store.getBase(), store.getIndices()) +
              ", " + text(store.getValueToStore()) + ", " + count + ");");
  return success();
}

void BodyEmitter::addVariables(Value value, llvm::StringSet<> &into) {
  Operation *op = value.getDefiningOp();
  if (variables.contains(value))
    into.insert(get(value).text);
  else if (op && inlined.contains(op))
    for (Value operand : operandsOf(op))
      addVariables(operand, into);
}

/// Gives all \p targets their \p values at once: none sees another's new one.
void BodyEmitter::assign(ArrayRef<std::string> targets, ValueRange values) {
  SmallVector<std::string> texts;
  llvm::StringSet<> assigned;
  for (auto [target, value] : llvm::zip_equal(targets, values)) {
    std::string expression = text(value);
    llvm::StringSet<> used;
    addVariables(value, used);
    bool isLate = llvm::any_of(
        used, [&](auto &name) { return assigned.contains(name.getKey()); });
    if (isLate) {
      std::string name = names.get("next");
      writer.line("const " + getCppType(value.getType()) + " " + name + " = " +
                  expression + ";");
      expression = name;
    }
    texts.push_back(expression);
    if (expression != target)
      assigned.insert(target);
  }
  for (auto [target, expression] : llvm::zip_equal(targets, texts))
    if (target != expression)
      writer.line(target + " = " + expression + ";");
}

LogicalResult BodyEmitter::emitFor(Operation *op) {
  auto loop = cast<scf::ForOp>(op);
  if (!isa<IndexType>(loop.getInductionVar().getType()))
    return op->emitOpError("has no form in C++: it does not count in index");
  beforeLoop(loop);
  SmallVector<std::string> carried;
  for (auto [init, argument, result] : llvm::zip_equal(
           loop.getInitArgs(), loop.getRegionIterArgs(), loop.getResults())) {
    std::string type = getCppType(argument.getType());
    if (type.empty())
      return op->emitOpError("has no form in C++: it carries ")
             << argument.getType();
    // A variable that ends here goes on as this one.
    bool isVariable = variables.contains(init) && useCounts.lookup(init) == 1 &&
                      init.getParentBlock() == op->getBlock();
    std::string name = isVariable ? text(init) : names.get(hint(argument));
    if (!isVariable) {
      bool isZero = isa<VectorType>(argument.getType()) &&
                    (matchPattern(init, m_PosZeroFloat()) ||
                     matchPattern(init, m_Zero()));
      writer.line(type + " " + name +
                  (isZero ? " = {};" : " = " + text(init) + ";"));
    }
    carried.push_back(name);
    for (Value value : {Value(argument), Value(result)}) {
      bind(value, {name});
      variables.insert(value);
    }
  }
  // Names in the loop are free again after it.
  CppNames outside = names;
  Value iv = loop.getInductionVar();
  std::string name = names.get(hint(iv));
  bind(iv, {name});
  std::string step = matchPattern(loop.getStep(), m_One())
                         ? "++" + name
                         : name + " += " + text(loop.getStep());
  if (countsRegisters(loop))
    writer.line("HADAL_UNROLL");
  writer.open("for (int64_t " + name + " = " + text(loop.getLowerBound()) +
              "; " + name + " < " +
              text(loop.getUpperBound(), CppExpression::Sum) + "; " + step +
              ")");
  if (failed(emitBlock(*loop.getBody())))
    return failure();
  assign(carried, loop.getBody()->getTerminator()->getOperands());
  writer.close();
  names = std::move(outside);
  return success();
}

LogicalResult BodyEmitter::emitIf(Operation *op) {
  auto choice = cast<scf::IfOp>(op);
  SmallVector<std::string> targets;
  for (Value result : choice.getResults()) {
    std::string type = getCppType(result.getType());
    if (type.empty())
      return op->emitOpError("has no form in C++: it gives ")
             << result.getType();
    targets.push_back(names.get(hint(result)));
    writer.line(type + " " + targets.back() + ";");
    bind(result, {targets.back()});
    variables.insert(result);
  }
  writer.open("if (" + text(choice.getCondition()) + ")");
  CppNames outside = names;
  for (Block *block : {choice.thenBlock(), choice.elseBlock()}) {
    if (!block)
      continue;
    if (block == choice.elseBlock()) {
      if (block->without_terminator().empty() && targets.empty())
        continue;
      writer.reopen("else");
    }
    if (failed(emitBlock(*block)))
      return failure();
    assign(targets, block->getTerminator()->getOperands());
    names = outside;
  }
  writer.close();
  return success();
}

//===----------------------------------------------------------------------===//
// Functions of parts
//===----------------------------------------------------------------------===//

/// True if \p op is a name plus a constant.
bool BodyEmitter::isSmallSum(Operation *op) {
  auto add = dyn_cast<arith::AddIOp>(op);
  return add && isa<IndexType>(add.getType()) &&
         matchPattern(add.getRhs(), m_Constant()) &&
         get(add.getLhs()).binding == CppExpression::Primary;
}

bool hadal::isBetween(Operation *op, Operation *first, Operation *last) {
  Operation *top = first->getBlock()->findAncestorOpInBlock(*op);
  return top && !top->isBeforeInBlock(first) && !last->isBeforeInBlock(top);
}

llvm::SetVector<Value> BodyEmitter::findCaptured(Operation *first,
                                                 Operation *last) const {
  llvm::SetVector<Value> captured;
  for (Operation *top = first;; top = top->getNextNode()) {
    top->walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (absorbed.contains(op))
        return;
      for (Value operand : operandsOf(op)) {
        Operation *made = operand.getDefiningOp();
        // Written again where they are used.
        if (isa_and_nonnull<vector::CreateMaskOp>(made) &&
            !isBetween(made, first, last)) {
          operand = made->getOperand(0);
          made = operand.getDefiningOp();
        }
        bool isConstant = made && (made->hasTrait<OpTrait::ConstantLike>() ||
                                   isa<vector::ConstantMaskOp>(made));
        if (!made)
          made = operand.getParentBlock()->getParentOp();
        if (!isConstant && !isBetween(made, first, last))
          captured.insert(operand);
      }
    });
    if (top == last)
      return captured;
  }
}

/// True if an op that is written, for which \p by is true, reads \p value.
bool BodyEmitter::isRead(Value value,
                         llvm::function_ref<bool(Operation *)> by) const {
  return llvm::any_of(value.getUsers(), [&](Operation *user) {
    if (!absorbed.contains(user))
      return by(user);
    return llvm::any_of(user->getResults(),
                        [&](Value result) { return isRead(result, by); });
  });
}

SmallVector<Value> BodyEmitter::findEscaping(Operation *first,
                                             Operation *last) const {
  SmallVector<Value> escaping;
  for (Operation *op = first;; op = op->getNextNode()) {
    for (Value result : op->getResults())
      if (!absorbed.contains(op) && isRead(result, [&](Operation *user) {
            return !isBetween(user, first, last);
          }))
        escaping.push_back(result);
    if (op == last)
      return escaping;
  }
}

std::string BodyEmitter::parameterName(Value value, StringRef text) {
  text.consume_front("step->");
  bool isName = !text.empty() && llvm::all_of(text, [](char c) {
    return llvm::isAlnum(c) || c == '_';
  }) && !llvm::isDigit(text.front());
  return names.get(isName ? text : StringRef(hint(value)));
}

LogicalResult
BodyEmitter::emitOutlined(const Outlined &outlined,
                          llvm::function_ref<bool(Value)> isWrittenThere,
                          llvm::function_ref<LogicalResult()> body) {
  auto outside = expressions;
  auto outsideNames = names;
  auto outsideVariables = variables;
  auto outsideInlined = inlined;
  std::string arguments, parameters, shapes;
  auto add = [&](const Twine &declaration, const Twine &argument) {
    parameters += ((parameters.empty() ? "" : ", ") + declaration).str();
    arguments += ((arguments.empty() ? "" : ", ") + argument).str();
  };
  // A loop goes on with variables that end in it: those are changed.
  llvm::DenseMap<Value, Value> changed;
  bool isOne = outlined.results.size() == 1;
  for (Value result : outlined.results)
    if (auto loop = result.getDefiningOp<scf::ForOp>(); loop && !isOne) {
      Value init = loop.getInitArgs()[cast<OpResult>(result).getResultNumber()];
      if (variables.contains(init) && useCounts.lookup(init) == 1 &&
          llvm::is_contained(outlined.captured, init))
        changed[init] = result;
    }
  names = outlined.names;
  for (auto &[declaration, argument] : outlined.given)
    names.get(argument);
  for (Value value : outlined.captured) {
    const std::string &argument = outside.find(value)->second.text;
    if (isa<rt::StepType>(value.getType())) {
      add("const hadal_rt_step_t *step", "step");
      continue;
    }
    std::string name = parameterName(value, argument);
    if (isRegisterArray(value)) {
      auto type = cast<MemRefType>(value.getType());
      add(getRegisterType(type) + " (&" + name + ")[" +
              Twine(type.getDimSize(0)) + "]",
          argument);
    } else if (auto memref = dyn_cast<MemRefType>(value.getType())) {
      add((isWrittenThere(value) ? "" : "const ") +
              getCppElement(memref.getElementType()) + " *" + name,
          argument);
      shapes +=
          (shapes.empty() ? "" : ", ") + name + " " + describeShape(memref);
    } else {
      add(getCppType(value.getType()) + (changed.contains(value) ? " &" : " ") +
              name,
          argument);
    }
    bind(value, {name});
    // It is a name here, whatever it is outside.
    inlined.erase(value.getDefiningOp());
  }
  for (auto &[declaration, argument] : outlined.given)
    add(declaration, argument);
  // What others read is returned, or is written to what is outside.
  SmallVector<std::pair<Value, std::string>> outputs, declared;
  for (Value result : outlined.results) {
    auto known = llvm::find_if(
        changed, [&](auto &entry) { return entry.second == result; });
    if (isOne)
      continue;
    if (known != changed.end()) {
      declared.push_back({result, outside.find(known->first)->second.text});
      continue;
    }
    std::string there = outsideNames.get(hint(result)),
                type = getCppType(result.getType());
    writer.line(type + " " + there + ";");
    declared.push_back({result, there});
    std::string name = names.get(there);
    outputs.push_back({result, name});
    add(type + " &" + name, there);
  }
  LogicalResult written = success();
  std::string text = writer.capture([&] {
    if (!shapes.empty())
      writer.comment(shapes + ".");
    unsigned before = writer.lineCount();
    writer.open(partQualifier() +
                (isOne ? getCppType(outlined.results[0].getType()) : "void") +
                " " + outlined.name + "(" + parameters + ")");
    written = body();
    if (succeeded(written)) {
      for (auto &[result, name] : outputs)
        writer.line(name + " = " + this->text(result) + ";");
      if (isOne)
        writer.line("return " + this->text(outlined.results[0]) + ";");
    }
    writer.close();
    functionLines[outlined.part] = writer.lineCount() - before;
    writer.line();
  });
  functions.push_back(std::move(text));
  expressions = std::move(outside);
  names = std::move(outsideNames);
  variables = std::move(outsideVariables);
  inlined = std::move(outsideInlined);
  std::string call = outlined.name + "(" + arguments + ")";
  if (isOne) {
    keepNamed(outlined.results[0].getDefiningOp());
    define(outlined.results[0], {call});
  } else {
    writer.line(call + ";");
  }
  for (auto &[result, name] : declared) {
    bind(result, {name});
    variables.insert(result);
  }
  return written;
}

/// Calls the function of a part that begins with \p first, and writes it.
LogicalResult BodyEmitter::emitPart(Operation *first, const CppPart &named) {
  Operation *last = named.last;
  SmallVector<Operation *> ops;
  for (Operation *op = first;; op = op->getNextNode()) {
    ops.push_back(op);
    // What follows may be in need of constants.
    if (op->hasTrait<OpTrait::ConstantLike>() && failed(emitOp(op)))
      return failure();
    if (op == last)
      break;
  }
  // Sums that are written again where they are used stand for what they add to.
  llvm::SetVector<Value> captured;
  SmallVector<arith::AddIOp> sums;
  for (Value value : findCaptured(first, last)) {
    auto sum = value.getDefiningOp<arith::AddIOp>();
    bool isAgain = sum && inlined.contains(sum) && isSmallSum(sum);
    if (isAgain)
      sums.push_back(sum);
    captured.insert(isAgain ? sum.getLhs() : value);
  }
  SmallVector<Value> results = findEscaping(first, last);
  Outlined outlined{first,   named.name, captured.getArrayRef(),
                    results, {},         givenTo(first, last)};
  for (auto &[other, part] : parts)
    outlined.names.get(part.name);
  auto isWrittenThere = [&](Value memref) {
    return llvm::any_of(memref.getUsers(), [&](Operation *user) {
      return isStore(user) && isBetween(user, first, last);
    });
  };
  auto body = [&] {
    llvm::SaveAndRestore saved(part, first);
    for (arith::AddIOp sum : sums)
      bind(sum, *express(sum));
    return emitOps(ops);
  };
  return emitOutlined(outlined, isWrittenThere, body);
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

std::string BodyEmitter::hint(Value value) {
  if (StringRef name = getSourceName(value); !name.empty())
    return name.str();
  Operation *op = value.getDefiningOp();
  if (!op) {
    auto argument = cast<BlockArgument>(value);
    auto loop = dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp());
    if (loop && argument.getArgNumber() > 0) {
      Value next = loop.getYieldedValues()[argument.getArgNumber() - 1];
      std::string name = hint(next);
      return name == "t" ? "carried" : name;
    }
    if (loop) {
      unsigned depth = 0;
      // In the function of a part, what is around it does not count.
      Operation *around = part ? part->getParentOp() : nullptr;
      for (Operation *outer = loop->getParentOp();
           outer != around && isa<scf::ForOp, scf::IfOp>(outer);
           outer = outer->getParentOp())
        depth += isa<scf::ForOp>(outer);
      depth += part ? 1 : 0;
      constexpr StringLiteral letters[] = {"item", "i", "j", "k",
                                           "l",    "m", "n"};
      return letters[std::min<size_t>(depth, std::size(letters) - 1)].str();
    }
    return "t";
  }
  auto idiom = idioms.find(op);
  if (idiom != idioms.end()) {
    StringRef callee = idiom->second.callee;
    return callee == "max" || callee == "max_lane" ? "largest"
           : callee == "min"                       ? "smallest"
           : callee == "exp"                       ? "power"
           : callee == "sigmoid"                   ? "gate"
                                                   : "sum";
  }
  // A thing read from a table of things.
  auto one = [&](Value memref) {
    // What is computed in another function has no name here.
    auto known = expressions.find(memref);
    if (known == expressions.end())
      return std::string("v");
    std::string name = known->second.text;
    StringRef base = StringRef(name).rtrim("0123456789");
    // "entries": an entry.
    if (base.consume_back("ies"))
      return (base + "y").str();
    base.consume_back("s");
    if (base == "params" || base.empty())
      return std::string("v");
    return base == name ? base.str() + "_at" : base.str();
  };
  if (auto load = dyn_cast<memref::LoadOp>(op))
    return one(load.getMemRef());
  if (auto load = dyn_cast<vector::LoadOp>(op))
    return one(load.getBase());
  if (isa<arith::ExtFOp, arith::TruncFOp, arith::IndexCastUIOp,
          arith::IndexCastOp, vector::BroadcastOp, arith::BitcastOp,
          vector::BitCastOp, arith::SIToFPOp, arith::FPToSIOp, arith::ExtUIOp,
          arith::ExtSIOp, arith::TruncIOp>(op)) {
    std::string name = hint(op->getOperand(0));
    return name;
  }
  if (isa<math::FmaOp, arith::AddFOp>(op))
    return "sum";
  if (isa<arith::MulFOp>(op))
    return "product";
  if (isa<arith::DivFOp>(op))
    return "ratio";
  if (isa<arith::SubFOp>(op))
    return "difference";
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    return compare.getPredicate() == arith::CmpIPredicate::eq ? "is_equal"
                                                              : "is_less";
  if (isa<arith::CmpFOp>(op))
    return "is_less";
  if (isa<arith::SelectOp>(op))
    return "chosen";
  if (isa<memref::AllocaOp>(op)) {
    // As `KernelBuilder::stack` names it; kernels themselves have a name, too.
    auto name = dyn_cast<NameLoc>(op->getLoc());
    return name && isa<NameLoc>(name.getChildLoc()) ? name.getName().str()
                                                    : "scratch";
  }
  if (isa<arith::MinUIOp>(op))
    return "end";
  if (isa<vector::DeinterleaveOp>(op))
    return cast<OpResult>(value).getResultNumber() ? "odd" : "even";
  if (isa<vector::InterleaveOp>(op))
    return "pairs";
  if (isa<vector::ShuffleOp>(op))
    return "shuffled";
  if (isa<arith::DivUIOp>(op))
    return "quotient";
  if (isa<arith::RemUIOp>(op))
    return "rest";
  // A place in memory, or a part of it.
  if (isa<IndexType>(value.getType()))
    return "at";
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return hint(
        loop.getRegionIterArgs()[cast<OpResult>(value).getResultNumber()]);
  return "t";
}
