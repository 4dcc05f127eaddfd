// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Targets, optimization and emission, through LLVM's new pass manager and its
// code generators.

#include "codegen/LLVM/EmitObject.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Linker/Linker.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include "llvm/TargetParser/Triple.h"

#include <mutex>

using namespace mlir;
using namespace hadal;

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    llvm::InitializeAllAsmParsers(); // For inline assembly.
  });
}

/// A string of a message, so that all are built alike.
static std::string concat(llvm::ArrayRef<StringRef> parts) {
  return llvm::join(parts, "");
}

namespace {

/// The lowest level of x86-64 that has all of a processor's features.
struct X86Level {
  StringLiteral cpu;
  StringLiteral features;
  unsigned vectorBits;
};
constexpr X86Level x86Levels[] = {
    {"x86-64-v4", "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl", 512},
    {"x86-64-v3", "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe", 256},
    {"x86-64-v2", "+sse4.2,+popcnt,+cx16", 128},
    {"x86-64", "", 128},
};

struct CpuFeature {
  uint32_t bit;
  StringLiteral features;
};
constexpr CpuFeature x86Features[] = {
    {HADAL_RT_CPU_SSE42_POPCNT, "+sse4.2,+popcnt,+cx16"},
    {HADAL_RT_CPU_AVX2_FMA_F16C, "+avx2,+fma,+f16c"},
    {HADAL_RT_CPU_AVX512_F_BW_DQ_VL, "+avx512f,+avx512bw,+avx512dq,+avx512vl"},
    {HADAL_RT_CPU_AVX512_VNNI, "+avx512vnni"},
    {HADAL_RT_CPU_AVX512_BF16, "+avx512bf16"},
    {HADAL_RT_CPU_AMX_INT8, "+amx-tile,+amx-int8"},
};
constexpr CpuFeature armFeatures[] = {
    {HADAL_RT_CPU_ARM_DOTPROD, "+dotprod"},
    {HADAL_RT_CPU_ARM_I8MM, "+i8mm"},
    {HADAL_RT_CPU_ARM_BF16, "+bf16"},
};
constexpr CpuFeature riscvFeatures[] = {
    {HADAL_RT_CPU_RISCV_V, "+v"},
};
/// What every processor that runs Linux distributions has.
constexpr StringLiteral riscvBase = "+m,+a,+f,+d,+c";

} // namespace

static std::string getNativeFeatures() {
  llvm::SubtargetFeatures features;
  SmallVector<StringRef> names;
  auto host = llvm::sys::getHostCPUFeatures();
  for (const auto &feature : host)
    names.push_back(feature.getKey());
  llvm::sort(names); // A StringMap has no order of its own.
  for (StringRef name : names)
    features.AddFeature(name, host.lookup(name));
  return features.getString();
}

static absl::Status checkFeatures(const llvm::MCSubtargetInfo &info,
                                  StringRef features, StringRef triple) {
  SmallVector<StringRef> names;
  features.split(names, ',', -1, /*KeepEmpty=*/false);
  for (StringRef name : names) {
    StringRef bare = name;
    bool known = (bare.consume_front("+") || bare.consume_front("-")) &&
                 llvm::any_of(info.getAllProcessorFeatures(),
                              [&](const llvm::SubtargetFeatureKV &feature) {
                                return StringRef(feature.Key) == bare;
                              });
    if (!known)
      return absl::InvalidArgumentError(
          concat({"expected features of ", triple,
                  " as +name or -name, but got '", name, "'"}));
  }
  return absl::OkStatus();
}

static std::string joinFeatures(StringRef a, StringRef b) {
  return a.empty() || b.empty() ? concat({a, b}) : concat({a, ",", b});
}

static llvm::CodeGenOptLevel getCodeGenLevel(unsigned optLevel) {
  switch (optLevel) {
  case 0:
    return llvm::CodeGenOptLevel::None;
  case 1:
    return llvm::CodeGenOptLevel::Less;
  case 2:
    return llvm::CodeGenOptLevel::Default;
  default:
    return llvm::CodeGenOptLevel::Aggressive;
  }
}

static llvm::OptimizationLevel getOptimizationLevel(unsigned optLevel) {
  switch (optLevel) {
  case 0:
    return llvm::OptimizationLevel::O0;
  case 1:
    return llvm::OptimizationLevel::O1;
  case 2:
    return llvm::OptimizationLevel::O2;
  default:
    return llvm::OptimizationLevel::O3;
  }
}

static std::unique_ptr<llvm::TargetMachine>
createTargetMachine(const ResolvedTarget &target, unsigned optLevel) {
  std::string ignored;
  llvm::Triple triple(target.triple);
  const llvm::Target *backend =
      llvm::TargetRegistry::lookupTarget(triple, ignored);
  if (!backend)
    return nullptr;
  llvm::TargetOptions options;
  // A kernel says where it wants a fused multiply-add.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  options.FunctionSections = true;
  options.DataSections = true;
  if (triple.getArch() == llvm::Triple::riscv64)
    options.MCOptions.ABIName = "lp64d";
  return std::unique_ptr<llvm::TargetMachine>(backend->createTargetMachine(
      triple, target.cpu, target.features, options, llvm::Reloc::PIC_,
      std::nullopt, getCodeGenLevel(optLevel)));
}

/// Adds what a frontend would say of each function.
static void setFunctionAttributes(llvm::Module &module,
                                  const ResolvedTarget &target) {
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    function.setDoesNotThrow();
    function.addFnAttr("target-cpu", target.cpu);
    function.addFnAttr("tune-cpu", target.tuneCpu);
    if (!target.features.empty())
      function.addFnAttr("target-features", target.features);
    // Without these, x86-64-v4 keeps to registers of 256 bits.
    if (target.vectorBits >= 512) {
      std::string bits = std::to_string(target.vectorBits);
      function.addFnAttr("prefer-vector-width", bits);
      function.addFnAttr("min-legal-vector-width", bits);
    }
  }
}

/// Makes each `llvm.fmuladd`, which `vector.fma` becomes and which may round
/// once or twice, an `llvm.fma`, which rounds once.
static void fuseMultiplyAdds(llvm::Module &module) {
  for (llvm::Function &function : module)
    if (function.getIntrinsicID() == llvm::Intrinsic::fmuladd)
      for (llvm::User *user : llvm::make_early_inc_range(function.users())) {
        auto *call = llvm::cast<llvm::CallInst>(user);
        call->setCalledFunction(llvm::Intrinsic::getOrInsertDeclaration(
            &module, llvm::Intrinsic::fma, call->getType()));
      }
}

/// Gives what \p module keeps to itself names that end with the processor's.
static void nameAfter(llvm::Module &module, const ResolvedTarget &target) {
  std::string suffix = ".";
  for (char c : target.tuneCpu)
    suffix += llvm::isAlnum(c) ? c : '_';
  for (llvm::GlobalValue &value : module.global_values())
    if (value.hasLocalLinkage())
      value.setName(value.getName() + suffix);
}

/// Names sections as Mach-O does, of a segment and a section.
static void nameMachOSections(llvm::Module &module) {
  for (llvm::GlobalVariable &global : module.globals()) {
    llvm::StringRef section = global.getSection();
    if (section.consume_front(".hadal."))
      global.setSection(concat({"__HADAL,__", section}));
  }
}

static void optimize(llvm::Module &module, llvm::TargetMachine &machine,
                     const EmitOptions &options) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = options.vectorize;
  tuning.LoopInterleaving = options.vectorize;
  tuning.SLPVectorization = options.vectorize;
  // Kernels are unrolled as far as they should be: how many lines of a weight
  // are read without a branch between them decides how fast memory is.
  tuning.LoopUnrolling = false;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  llvm::OptimizationLevel level = getOptimizationLevel(options.optLevel);
  llvm::ModulePassManager passes =
      options.optLevel == 0 ? builder.buildO0DefaultPipeline(level)
                            : builder.buildPerModuleDefaultPipeline(level);
  passes.run(module, modules);
}

/// Keeps the first error that LLVM reports.
static void keepFirstError(const llvm::DiagnosticInfo *info, void *context) {
  auto &error = *static_cast<std::string *>(context);
  if (info->getSeverity() != llvm::DS_Error || !error.empty())
    return;
  llvm::raw_string_ostream stream(error);
  llvm::DiagnosticPrinterRawOStream printer(stream);
  info->print(printer);
}

/// The caches of a core of \p cpu, a name of LLVM's; where a name stands for
/// several products, the smallest. Sources: Intel 64 and IA-32 Architectures
/// Optimization Reference Manual, 248966, chapter 2; AMD Software Optimization
/// Guides 56305 (Zen 2), 56665 (Zen 3), 57647 (Zen 4), 58455 (Zen 5); Arm's
/// technical reference manuals of each core.
static CacheSizes findCaches(llvm::StringRef cpu, unsigned vectorBits) {
  constexpr int64_t kib = 1 << 10;
  return llvm::StringSwitch<CacheSizes>(cpu)
      .Cases({"skylake-avx512", "cascadelake", "cooperlake"},
             {32 * kib, 1024 * kib})
      .Cases({"icelake-client", "rocketlake"}, {48 * kib, 512 * kib})
      .Cases({"icelake-server", "tigerlake", "alderlake"},
             {48 * kib, 1280 * kib})
      .Cases({"sapphirerapids", "emeraldrapids", "graniterapids",
              "graniterapids-d", "raptorlake"},
             {48 * kib, 2048 * kib})
      .Cases({"znver1", "znver2", "znver3"}, {32 * kib, 512 * kib})
      .Case("znver4", {32 * kib, 1024 * kib})
      .Case("znver5", {48 * kib, 1024 * kib})
      .Cases({"cortex-a76", "cortex-a77", "cortex-a78", "cortex-x1"},
             {64 * kib, 256 * kib})
      .Cases({"neoverse-n1", "neoverse-n2"}, {64 * kib, 512 * kib})
      .Cases({"neoverse-v1", "neoverse-v2"}, {64 * kib, 1024 * kib})
      // Others with AVX-512 have 1 MiB, too.
      .Default({32 * kib, (vectorBits >= 512 ? 1024 : 256) * kib});
}

absl::StatusOr<ResolvedTarget> hadal::resolveTarget(const Target &target) {
  initializeTargets();
  ResolvedTarget resolved;
  std::string hostTriple = llvm::sys::getDefaultTargetTriple();
  resolved.triple = llvm::Triple::normalize(
      target.triple.empty() ? hostTriple : target.triple);
  llvm::Triple triple(resolved.triple);
  std::string error;
  const llvm::Target *backend =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return absl::InvalidArgumentError(concat(
        {"expected a target that LLVM knows, but got '", target.triple, "'"}));
  if (!triple.isArch64Bit() || !triple.isLittleEndian())
    return absl::InvalidArgumentError(
        concat({"expected a 64-bit little-endian target, but got '",
                target.triple, "'"}));

  std::string cpu = target.cpu;
  std::string nativeFeatures;
  if (cpu == "native") {
    if (triple.getArch() != llvm::Triple(hostTriple).getArch())
      return absl::InvalidArgumentError(
          concat({"expected the name of a cpu of ", resolved.triple,
                  ", but got 'native' on ", hostTriple}));
    cpu = llvm::sys::getHostCPUName().str();
    nativeFeatures = getNativeFeatures();
  }
  // Checked first: a name that LLVM does not know makes it write to stderr.
  std::unique_ptr<llvm::MCSubtargetInfo> generic(
      backend->createMCSubtargetInfo(triple, "", ""));
  if (!cpu.empty() && !generic->isCPUStringValid(cpu))
    return absl::InvalidArgumentError(concat(
        {"expected a cpu of ", resolved.triple, ", but got '", cpu, "'"}));
  if (absl::Status status =
          checkFeatures(*generic, target.features, resolved.triple);
      !status.ok())
    return status;

  resolved.tuneCpu = cpu;
  if (triple.getArch() == llvm::Triple::x86_64) {
    std::unique_ptr<llvm::MCSubtargetInfo> info(
        backend->createMCSubtargetInfo(triple, cpu, nativeFeatures));
    const X86Level *level = x86Levels;
    // A level has what the levels below it have; the last has nothing.
    while (!info->checkFeatures(llvm::join(
        llvm::map_range(llvm::make_range(level, std::end(x86Levels)),
                        [](const X86Level &level) { return level.features; }),
        ",")))
      ++level;
    resolved.cpu = level->cpu;
    resolved.vectorBits = level->vectorBits;
    if (level == x86Levels)
      for (StringLiteral feature :
           {StringLiteral("+avx512vnni"), StringLiteral("+avx512bf16"),
            StringLiteral("+amx-tile,+amx-int8")})
        if (info->checkFeatures(feature))
          resolved.features = joinFeatures(resolved.features, feature);
  } else if (triple.isAArch64()) {
    std::unique_ptr<llvm::MCSubtargetInfo> info(
        backend->createMCSubtargetInfo(triple, cpu, nativeFeatures));
    resolved.cpu = "generic";
    for (const CpuFeature &feature : armFeatures)
      if (info->checkFeatures(feature.features))
        resolved.features = joinFeatures(resolved.features, feature.features);
    resolved.vectorBits = 128;
  } else if (triple.getArch() == llvm::Triple::riscv64) {
    std::unique_ptr<llvm::MCSubtargetInfo> info(
        backend->createMCSubtargetInfo(triple, cpu, nativeFeatures));
    resolved.cpu = "generic-rv64";
    resolved.features = riscvBase.str();
    for (const CpuFeature &feature : riscvFeatures)
      if (info->checkFeatures(feature.features))
        resolved.features = joinFeatures(resolved.features, feature.features);
    // Registers have 128 bits or more.
    resolved.vectorBits = 128;
  } else {
    resolved.cpu = cpu;
    resolved.features = nativeFeatures;
    resolved.vectorBits = 128;
  }
  resolved.features = joinFeatures(resolved.features, target.features);

  std::unique_ptr<llvm::MCSubtargetInfo> info(
      backend->createMCSubtargetInfo(triple, resolved.cpu, resolved.features));
  ArrayRef<CpuFeature> known;
  if (triple.getArch() == llvm::Triple::x86_64)
    known = x86Features;
  else if (triple.isAArch64())
    known = armFeatures;
  else if (triple.getArch() == llvm::Triple::riscv64)
    known = riscvFeatures;
  for (const CpuFeature &feature : known)
    if (info->checkFeatures(feature.features))
      resolved.cpuFeatures |= feature.bit;
  if (resolved.vectorBits >= 512 &&
      resolved.cpuFeatures & HADAL_RT_CPU_AVX512_VNNI)
    resolved.dotProduct = resolved.cpuFeatures & HADAL_RT_CPU_AMX_INT8
                              ? DotProductKind::AMXInt8
                              : DotProductKind::AVX512VNNI;
  else if (resolved.vectorBits >= 256)
    resolved.dotProduct = DotProductKind::AVX2;
  else if (resolved.cpuFeatures & HADAL_RT_CPU_ARM_DOTPROD)
    resolved.dotProduct = resolved.cpuFeatures & HADAL_RT_CPU_ARM_I8MM
                              ? DotProductKind::NeonI8MM
                              : DotProductKind::Neon;
  resolved.bf16Pairs = resolved.vectorBits >= 512 &&
                       resolved.cpuFeatures & HADAL_RT_CPU_AVX512_BF16;
  resolved.bf16Dots = resolved.cpuFeatures & HADAL_RT_CPU_ARM_BF16;
  // Others take two operations for it, or have not been measured.
  resolved.scalesByExponents =
      resolved.dotProduct == DotProductKind::AVX512VNNI &&
      resolved.tuneCpu == "znver4";
  resolved.followsStreams = resolved.tuneCpu == "znver4";
  resolved.caches = findCaches(resolved.tuneCpu, resolved.vectorBits);
  auto machine = createTargetMachine(resolved, 2);
  if (!machine)
    return absl::InvalidArgumentError(
        concat({"expected a target that LLVM compiles for, but got '",
                resolved.triple, "'"}));
  resolved.dataLayout = machine->createDataLayout().getStringRepresentation();
  return resolved;
}

void hadal::setCpuFeatures(ModuleOp module, const ResolvedTarget &target) {
  for (auto program : module.getOps<rt::ProgramOp>())
    program.setCpuFeatures(target.cpuFeatures);
}

/// The LLVM IR of \p level, whose functions say what they are compiled for.
static absl::StatusOr<std::unique_ptr<llvm::Module>>
translate(const CodeLevel &level, llvm::LLVMContext &context) {
  ModuleOp module = level.module;
  MLIRContext *mlirContext = module.getContext();
  registerBuiltinDialectTranslation(*mlirContext);
  registerLLVMDialectTranslation(*mlirContext);
  Builder attributes(mlirContext);
  // Sizes and alignments depend on them from the first instruction on.
  module->setAttr(LLVM::LLVMDialect::getDataLayoutAttrName(),
                  attributes.getStringAttr(level.target.dataLayout));
  module->setAttr(LLVM::LLVMDialect::getTargetTripleAttrName(),
                  attributes.getStringAttr(level.target.triple));

  std::string error;
  std::unique_ptr<llvm::Module> code;
  {
    ScopedDiagnosticHandler handler(mlirContext, [&](Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == DiagnosticSeverity::Error &&
          error.empty())
        error = diagnostic.str();
      return success();
    });
    code = translateModuleToLLVMIR(module, context, "hadal");
  }
  if (!code)
    return absl::InternalError(
        concat({"expected a module of the llvm dialect: ", error}));
  setFunctionAttributes(*code, level.target);
  fuseMultiplyAdds(*code);
  return code;
}

/// Adds \p part, of a lesser level, to \p code, which names its model.
static absl::Status addLevel(llvm::Module &code,
                             std::unique_ptr<llvm::Module> part,
                             const ResolvedTarget &target) {
  // Tools read the manifest of the first.
  if (llvm::GlobalVariable *used = part->getNamedGlobal("llvm.used"))
    used->eraseFromParent();
  nameAfter(*part, target);
  SmallVector<std::string> models;
  for (const llvm::GlobalVariable &global : part->globals())
    if (global.hasExternalLinkage() && !global.isDeclaration())
      models.push_back(global.getName().str());
  if (llvm::Linker::linkModules(code, std::move(part)))
    return absl::InternalError("expected modules of one model");
  for (const std::string &name : models)
    code.getNamedGlobal(name)->setLinkage(llvm::GlobalValue::InternalLinkage);
  return absl::OkStatus();
}

absl::Status hadal::emit(llvm::ArrayRef<CodeLevel> levels,
                         const EmitOptions &options,
                         llvm::raw_pwrite_stream &stream) {
  initializeTargets();
  // Functions say what they may use beyond what the least has.
  const ResolvedTarget &target = levels.back().target;
  auto machine = createTargetMachine(target, options.optLevel);
  if (!machine)
    return absl::InvalidArgumentError(
        concat({"expected a target that LLVM compiles for, but got '",
                target.triple, "'"}));

  std::string error;
  llvm::LLVMContext context;
  context.setDiagnosticHandlerCallBack(keepFirstError, &error);
  std::unique_ptr<llvm::Module> code;
  for (const CodeLevel &level : levels) {
    absl::StatusOr<std::unique_ptr<llvm::Module>> part =
        translate(level, context);
    if (!part.ok())
      return part.status();
    if (!code)
      code = std::move(*part);
    else if (absl::Status status =
                 addLevel(*code, std::move(*part), level.target);
             !status.ok())
      return status;
  }
  if (llvm::Triple(target.triple).isOSBinFormatMachO())
    nameMachOSections(*code);
  {
    llvm::raw_string_ostream message(error);
    if (llvm::verifyModule(*code, &message))
      return absl::InternalError(concat({"invalid LLVM IR: ", error}));
  }

  optimize(*code, *machine, options);
  if (options.kind == EmitKind::LLVMIR) {
    code->print(stream, nullptr);
  } else {
    llvm::legacy::PassManager passes;
    auto type = options.kind == EmitKind::Object
                    ? llvm::CodeGenFileType::ObjectFile
                    : llvm::CodeGenFileType::AssemblyFile;
    if (machine->addPassesToEmitFile(passes, stream, nullptr, type))
      return absl::InvalidArgumentError(
          concat({"no object files for ", target.triple}));
    passes.run(*code);
  }
  if (!error.empty())
    return absl::InvalidArgumentError(
        concat({"compiling for ", target.triple, ": ", error}));
  return absl::OkStatus();
}
