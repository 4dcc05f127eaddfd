// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Targets, and what is emitted for them.

#include "TestModel.h"

#include "hadal_rt/abi.h"

using namespace hadal;

static bool contains(llvm::StringRef text, llvm::StringRef part) {
  return text.contains(part);
}

static EmitOptions assembly() {
  EmitOptions options;
  options.kind = EmitKind::Assembly;
  return options;
}

static const char *const linux64 = "x86_64-unknown-linux-gnu";

TEST(ResolveTarget, LevelsOfX86) {
  ResolvedTarget v3 = resolve({linux64, "x86-64-v3", ""});
  EXPECT_EQ(v3.cpu, "x86-64-v3");
  EXPECT_EQ(v3.cpuFeatures,
            HADAL_RT_CPU_SSE42_POPCNT | HADAL_RT_CPU_AVX2_FMA_F16C);
  EXPECT_EQ(v3.vectorBits, 256u);
  EXPECT_EQ(v3.features, "");
  ResolvedTarget v4 = resolve({linux64, "x86-64-v4", ""});
  EXPECT_EQ(v4.cpuFeatures, v3.cpuFeatures | HADAL_RT_CPU_AVX512_F_BW_DQ_VL);
  EXPECT_EQ(v4.vectorBits, 512u);
  EXPECT_EQ(resolve({linux64, "x86-64-v2", ""}).cpuFeatures,
            uint32_t(HADAL_RT_CPU_SSE42_POPCNT));
  EXPECT_EQ(resolve({linux64, "x86-64", ""}).cpuFeatures, 0u);
}

// A processor gives no more than the runtime can check.
TEST(ResolveTarget, NamedProcessors) {
  ResolvedTarget zen4 = resolve({linux64, "znver4", ""});
  EXPECT_EQ(zen4.cpu, "x86-64-v4");
  EXPECT_EQ(zen4.tuneCpu, "znver4");
  EXPECT_EQ(zen4.features, "+avx512vnni,+avx512bf16");
  EXPECT_EQ(zen4.cpuFeatures, 47u);
  EXPECT_EQ(zen4.dotProduct, DotProductKind::AVX512VNNI);
  EXPECT_TRUE(zen4.scalesByExponents);
  EXPECT_TRUE(zen4.followsStreams);
  EXPECT_EQ(zen4.caches.l1Bytes, 32 << 10);
  EXPECT_EQ(zen4.caches.l2Bytes, 1 << 20);
  ResolvedTarget sapphireRapids = resolve({linux64, "sapphirerapids", ""});
  EXPECT_EQ(sapphireRapids.features,
            "+avx512vnni,+avx512bf16,+amx-tile,+amx-int8");
  EXPECT_EQ(sapphireRapids.cpuFeatures, 63u);
  EXPECT_EQ(sapphireRapids.dotProduct, DotProductKind::AMXInt8);
  EXPECT_EQ(sapphireRapids.caches.l1Bytes, 48 << 10);
  EXPECT_EQ(sapphireRapids.caches.l2Bytes, 2 << 20);
  ResolvedTarget haswell = resolve({linux64, "haswell", ""});
  EXPECT_EQ(haswell.cpu, "x86-64-v3");
  EXPECT_EQ(haswell.caches.l2Bytes, 256 << 10);
  EXPECT_EQ(haswell.cpuFeatures,
            HADAL_RT_CPU_SSE42_POPCNT | HADAL_RT_CPU_AVX2_FMA_F16C);
}

TEST(ResolveTarget, NamedFeatures) {
  ResolvedTarget target = resolve({linux64, "x86-64-v4", "+avx512vnni"});
  EXPECT_FALSE(target.scalesByExponents);
  EXPECT_FALSE(target.followsStreams);
  EXPECT_EQ(target.features, "+avx512vnni");
  EXPECT_EQ(target.cpuFeatures, 39u);
}

TEST(ResolveTarget, ARM) {
  ResolvedTarget old = resolve({"aarch64-linux-gnu", "", ""});
  EXPECT_EQ(old.cpuFeatures, 0u);
  EXPECT_EQ(old.dotProduct, DotProductKind::Generic);
  ResolvedTarget a76 = resolve({"aarch64-linux-gnu", "cortex-a76", ""});
  EXPECT_EQ(a76.cpuFeatures, uint32_t(HADAL_RT_CPU_ARM_DOTPROD));
  EXPECT_EQ(a76.dotProduct, DotProductKind::Neon);
  EXPECT_EQ(a76.features, "+dotprod");
  EXPECT_EQ(a76.tuneCpu, "cortex-a76");
  // Jetson Orin's.
  ResolvedTarget a78ae = resolve({"aarch64-linux-gnu", "cortex-a78ae", ""});
  EXPECT_EQ(a78ae.dotProduct, DotProductKind::Neon);
  for (const char *cpu : {"neoverse-v1", "neoverse-v2"}) {
    ResolvedTarget neoverse = resolve({"aarch64-linux-gnu", cpu, ""});
    EXPECT_EQ(neoverse.cpuFeatures,
              uint32_t(HADAL_RT_CPU_ARM_DOTPROD | HADAL_RT_CPU_ARM_I8MM |
                       HADAL_RT_CPU_ARM_BF16));
    EXPECT_TRUE(neoverse.bf16Dots);
    EXPECT_EQ(neoverse.dotProduct, DotProductKind::NeonI8MM);
  }
}

TEST(ResolveTarget, RISCV) {
  ResolvedTarget base = resolve({"riscv64-linux-gnu", "", ""});
  EXPECT_EQ(base.cpuFeatures, 0u);
  EXPECT_EQ(base.features, "+m,+a,+f,+d,+c");
  ResolvedTarget x280 = resolve({"riscv64-linux-gnu", "sifive-x280", ""});
  EXPECT_EQ(x280.cpuFeatures, uint32_t(HADAL_RT_CPU_RISCV_V));
  EXPECT_EQ(x280.features, "+m,+a,+f,+d,+c,+v");
  EXPECT_EQ(x280.dotProduct, DotProductKind::Generic);
}

TEST(ResolveTarget, Native) {
  ResolvedTarget native = resolve({});
  EXPECT_FALSE(native.cpu.empty());
  EXPECT_NE(native.cpu, "native");
}

static void expectRefused(const Target &target, llvm::StringRef message) {
  auto resolved = resolveTarget(target);
  ASSERT_FALSE(resolved.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(resolved.status()));
  EXPECT_EQ(resolved.status().message(), message.str());
}

TEST(ResolveTarget, Refusals) {
  expectRefused({linux64, "pentium5", ""},
                "expected a cpu of x86_64-unknown-linux-gnu, but got "
                "'pentium5'");
  expectRefused({linux64, "x86-64-v3", "+avx2048"},
                "expected features of x86_64-unknown-linux-gnu as +name or "
                "-name, but got '+avx2048'");
  expectRefused({linux64, "x86-64-v3", "avx2"},
                "expected features of x86_64-unknown-linux-gnu as +name or "
                "-name, but got 'avx2'");
  expectRefused({"pdp11-dec-unix", "", ""},
                "expected a target that LLVM knows, but got 'pdp11-dec-unix'");
  expectRefused({"i686-linux-gnu", "i686", ""},
                "expected a 64-bit little-endian target, but got "
                "'i686-linux-gnu'");
  EXPECT_FALSE(resolveTarget({"riscv64-linux-gnu", "native", ""}).ok());
}

TEST(Emit, WidestRegisters) {
  std::string v3 = compile({linux64, "x86-64-v3", ""}, assembly());
  EXPECT_TRUE(contains(v3, "%ymm"));
  EXPECT_TRUE(contains(v3, "vfmadd")); // Of a vector.fma.
  EXPECT_FALSE(contains(v3, "%zmm"));
  std::string v4 = compile({linux64, "x86-64-v4", ""}, assembly());
  EXPECT_TRUE(contains(v4, "%zmm"));
}

TEST(Emit, MachO) {
  std::string object = compile({"arm64-apple-macos14", "apple-m1", ""});
  EXPECT_TRUE(llvm::StringRef(object).starts_with("\xcf\xfa\xed\xfe"));
}

TEST(Emit, SameBytes) {
  Target target = {linux64, "x86-64-v4", ""};
  std::string first = compile(target);
  EXPECT_TRUE(contains(first, "\x7f"
                              "ELF"));
  EXPECT_EQ(first, compile(target));
}

// A product and a sum stay two roundings, and one fma is one.
TEST(Emit, NoContraction) {
  const char *source = R"(
    rt.program @m entry @forward {vocab = 8 : i64, hidden = 64 : i64,
      layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64,
      page_bytes = 256 : i64, weights_bytes = 256 : i64,
      layout_hash = "00112233445566778899aabbccddeeff", info = {}}
    rt.kernel @k [memref<64xf32>] {
    ^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<64xf32>):
      %a = vector.load %x[%first] : memref<64xf32>, vector<8xf32>
      %b = vector.load %x[%last] : memref<64xf32>, vector<8xf32>
      %c = arith.mulf %a, %b : vector<8xf32>
      %d = arith.addf %c, %a : vector<8xf32>
      %e = vector.reduction <add>, %d : vector<8xf32> into f32
      memref.store %e, %x[%first] : memref<64xf32>
    }
    func.func @forward(%step: !rt.step) {
      %n = rt.tokens %step
      %x = rt.alloc %step bytes 0 * tokens + 256 : memref<64xf32>
      rt.dispatch @k items %n of %step(%x) : memref<64xf32>
      return
    })";
  for (unsigned level : {0, 2, 3}) {
    EmitOptions options = assembly();
    options.optLevel = level;
    std::string text = compile({linux64, "x86-64-v3", ""}, options, source);
    EXPECT_FALSE(contains(text, "vfmadd"));
    EXPECT_TRUE(contains(text, "vmulps"));
    EXPECT_FALSE(contains(text, "vhaddps"));
  }
}

TEST(Emit, LLVMIR) {
  EmitOptions options;
  options.kind = EmitKind::LLVMIR;
  std::string text = compile({linux64, "x86-64-v4", ""}, options);
  EXPECT_TRUE(contains(text, "target triple = \"x86_64-unknown-linux-gnu\""));
  EXPECT_TRUE(contains(text, "@hadal_model = "));
  EXPECT_TRUE(contains(text, "\"prefer-vector-width\"=\"512\""));
  EXPECT_FALSE(contains(text, " fast "));
}

TEST(Emit, OtherArchitecture) {
  std::string text =
      compile({"aarch64-linux-gnu", "cortex-a76", ""}, assembly());
  EXPECT_TRUE(contains(text, "fmla"));
  text = compile({"riscv64-linux-gnu", "sifive-x280", ""}, assembly());
  EXPECT_TRUE(contains(text, "vfmacc") || contains(text, "vfmadd"));
}
