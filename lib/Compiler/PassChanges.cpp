// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts ops before and after each pass.

#include "lib/Compiler/PassChanges.h"

#include "mlir/IR/OperationSupport.h"
#include "mlir/Pass/Pass.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <mutex>

using namespace mlir;
using namespace hadal;

namespace {

/// How many ops of each name there are.
using OpCounts = std::map<std::string, int64_t>;

OpCounts countOps(Operation *root) {
  OpCounts counts;
  root->walk(
      [&](Operation *op) { ++counts[op->getName().getStringRef().str()]; });
  return counts;
}

class PassChanges : public PassInstrumentation {
public:
  explicit PassChanges(std::vector<PassChange> &changes) : changes(changes) {}

  void runBeforePass(Pass *pass, Operation *op) override {
    // What only runs others on functions has no name.
    if (pass->getArgument().empty())
      return;
    State state{countOps(op), OperationFingerPrint(op)};
    // Functions are worked on in parallel.
    std::lock_guard lock(mutex);
    auto [it, isNew] = places.try_emplace(pass->getArgument(), changes.size());
    if (isNew)
      changes.push_back({pass->getArgument().str(), {}, false});
    states.insert_or_assign({pass, op}, std::move(state));
  }

  void runAfterPass(Pass *pass, Operation *op) override {
    if (pass->getArgument().empty())
      return;
    OpCounts counts = countOps(op);
    OperationFingerPrint print(op);
    std::lock_guard lock(mutex);
    auto it = states.find({pass, op});
    if (it == states.end())
      return;
    PassChange &change = changes[places.lookup(pass->getArgument())];
    change.isChanged |= print != it->second.print;
    OpCounts &sums = change.ops;
    for (auto &[name, count] : counts)
      sums[name] += count;
    for (auto &[name, count] : it->second.counts)
      sums[name] -= count;
    for (auto sum = sums.begin(); sum != sums.end();)
      sum = sum->second ? std::next(sum) : sums.erase(sum);
    states.erase(it);
  }

  void runAfterPassFailed(Pass *pass, Operation *op) override {
    std::lock_guard lock(mutex);
    states.erase({pass, op});
  }

private:
  struct State {
    OpCounts counts;
    OperationFingerPrint print;
  };

  std::vector<PassChange> &changes;
  std::mutex mutex;
  llvm::StringMap<size_t> places; ///< Of passes in `changes`.
  std::map<std::pair<Pass *, Operation *>, State> states;
};

} // namespace

std::unique_ptr<PassInstrumentation>
hadal::makePassChanges(std::vector<PassChange> &changes) {
  return std::make_unique<PassChanges>(changes);
}
