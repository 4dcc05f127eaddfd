// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes names of locations inlined functions, and functions unwindable.

#include "lib/Compiler/DebugScopes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace hadal;

/// The subprogram of \p function; null if it has no debug info.
static LLVM::DISubprogramAttr getSubprogram(LLVM::LLVMFuncOp function) {
  auto fused =
      function.getLoc()->findInstanceOf<FusedLocWith<LLVM::DISubprogramAttr>>();
  return fused ? fused.getMetadata() : LLVM::DISubprogramAttr();
}

void hadal::addNamedScopes(ModuleOp module) {
  MLIRContext *context = module.getContext();
  for (auto function : module.getOps<LLVM::LLVMFuncOp>()) {
    LLVM::DISubprogramAttr outer = getSubprogram(function);
    if (!outer)
      continue;
    function.setUwtableKindAttr(
        LLVM::UWTableKindAttr::get(context, LLVM::uwtable::UWTableKind::Async));
    // One for all that one dispatch became.
    llvm::DenseMap<NameLoc, Location> places;
    auto makePlace = [&](NameLoc named, FileLineColLoc line) -> Location {
      auto subprogram = LLVM::DISubprogramAttr::get(
          context, DistinctAttr::create(UnitAttr::get(context)),
          outer.getCompileUnit(), outer.getFile(), named.getName(),
          /*linkageName=*/{}, outer.getFile(), line.getLine(), line.getLine(),
          outer.getSubprogramFlags(), outer.getType(), /*retainedNodes=*/{},
          /*annotations=*/{});
      return CallSiteLoc::get(FusedLoc::get(context, {line}, subprogram), line);
    };
    function.walk([&](Operation *op) {
      auto named = op->getLoc()->findInstanceOf<NameLoc>();
      auto line = op->getLoc()->findInstanceOf<FileLineColLoc>();
      if (!named || !line)
        return;
      auto place = places.find(named);
      if (place == places.end())
        place = places.try_emplace(named, makePlace(named, line)).first;
      op->setLoc(place->second);
    });
  }
}
