// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Headers that nearly every file of the compiler includes, compiled once.

#ifndef HADAL_SUPPORT_PRECOMPILED_H
#define HADAL_SUPPORT_PRECOMPILED_H

// The statistics of a pass are laid out and set up by whether assertions are
// on, and libMLIR, which sets them up, is built without. So must be their
// declaration here, or a pass would count in memory that nobody initialized.
#ifndef NDEBUG
#define NDEBUG
#include "llvm/ADT/Statistic.h"
#undef NDEBUG
#include <cassert>
#endif

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Pass/Pass.h"

#endif // HADAL_SUPPORT_PRECOMPILED_H
