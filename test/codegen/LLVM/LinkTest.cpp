// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Executables, libraries and archives from emitted objects, and that the code
// in them computes what it should.

#include "codegen/LLVM/Link.h"
#include "TestModel.h"

#include "hadal_rt/abi.h"
#include "llvm/Object/Archive.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"

#include <dlfcn.h>

using namespace hadal;

static const char *const manifest = "{\"model\": \"tiny\"}";

/// Runs \p program and gives what it writes.
static std::string run(const TemporaryFolder &folder,
                       const std::string &program) {
  std::string log = folder.path("log");
  std::optional<llvm::StringRef> redirects[] = {
      llvm::StringRef(), llvm::StringRef(log), llvm::StringRef(log)};
  llvm::sys::ExecuteAndWait(program, {program}, std::nullopt, redirects);
  return folder.read("log");
}

namespace {
class CompiledModel : public testing::TestWithParam<unsigned> {};
} // namespace

TEST_P(CompiledModel, Runs) {
  for (const std::string &cpu : getRunnableCpus()) {
    TemporaryFolder folder;
    EmitOptions options;
    options.optLevel = GetParam();
    std::string object =
        folder.write("model.o", compile({"", cpu, ""}, options));
    absl::Status status =
        linkExecutable(object, {HADAL_TEST_HARNESS}, folder.path("model"));
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(run(folder, folder.path("model")), "ok\n") << cpu;
    // The linker drops what nothing refers to, but not the manifest.
    std::string bytes = folder.read("model");
    EXPECT_NE(bytes.find(".hadal.manifest"), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, CompiledModel, testing::Values(0, 1, 2, 3));

TEST(Link, SameBytes) {
  TemporaryFolder folder;
  std::string object = folder.write("model.o", compile({}));
  for (const char *output : {"first", "second"})
    ASSERT_TRUE(
        linkExecutable(object, {HADAL_TEST_HARNESS}, folder.path(output)).ok());
  EXPECT_EQ(folder.read("first"), folder.read("second"));
}

TEST(Link, SharedLibrary) {
  TemporaryFolder folder;
  std::string object = folder.write("model.o", compile({}));
  absl::Status status = linkShared(object, {}, folder.path("libmodel.so"));
  ASSERT_TRUE(status.ok()) << status;
  void *library = dlopen(folder.path("libmodel.so").c_str(), RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  auto *model =
      static_cast<const hadal_rt_model_t *>(dlsym(library, "hadal_model"));
  ASSERT_NE(model, nullptr);
  EXPECT_STREQ(model->manifest, manifest);
  EXPECT_EQ(model->cpu_features, resolve({}).cpuFeatures);
  EXPECT_EQ(dlsym(library, "forward"), nullptr);
  dlclose(library);
}

TEST(Link, ErrorIsOneLine) {
  TemporaryFolder folder;
  std::string object = folder.write("model.o", compile({}));
  absl::Status status = linkExecutable(object, {}, folder.path("model"));
  ASSERT_TRUE(absl::IsInvalidArgument(status));
  std::string message(status.message());
  EXPECT_NE(message.find("main"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;

  status = linkExecutable(folder.path("none.o"), {}, folder.path("model"));
  ASSERT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("none.o"), std::string::npos) << status;

  LinkOptions options;
  options.driver = "no-such-driver";
  status = linkExecutable(object, {}, folder.path("model"), options);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  options.triple = "aarch64-linux-gnu";
  status = linkExecutable(object, {}, folder.path("model"), options);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find("g++-aarch64-linux-gnu"), std::string::npos)
      << status;
  // clang is there, and no C library of the target.
  options.driver = folder.write(
      "clang-alone", "#!/bin/sh\necho 'ld.lld: error: cannot open Scrt1.o: No "
                     "such file or directory'\nexit 1\n");
  ASSERT_FALSE(
      llvm::sys::fs::setPermissions(options.driver, llvm::sys::fs::all_all));
  status = linkExecutable(object, {}, folder.path("model"), options);
  EXPECT_EQ(status.message(),
            "clang-alone: ld.lld: error: cannot open Scrt1.o: No such file or "
            "directory; Debian's package is g++-aarch64-linux-gnu");
}

TEST(Link, Archive) {
  TemporaryFolder folder;
  std::string object = folder.write("model.o", compile({}));
  for (const char *output : {"first.a", "second.a"}) {
    absl::Status status =
        archive({object, HADAL_TEST_HARNESS}, folder.path(output));
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string bytes = folder.read("first.a");
  EXPECT_EQ(bytes, folder.read("second.a"));
  EXPECT_EQ(bytes.find(folder.path("")), std::string::npos);

  auto parsed =
      llvm::object::Archive::create(llvm::MemoryBufferRef(bytes, "first.a"));
  ASSERT_TRUE(bool(parsed));
  EXPECT_TRUE((*parsed)->hasSymbolTable());
  std::vector<std::string> names;
  llvm::Error error = llvm::Error::success();
  for (const auto &child : (*parsed)->children(error))
    names.push_back(llvm::cantFail(child.getName()).str());
  ASSERT_FALSE(bool(error));
  EXPECT_EQ(names, (std::vector<std::string>{"model.o", "harness.c.o"}));

  // It is all that a program needs.
  absl::Status status =
      linkExecutable(folder.path("first.a"), {}, folder.path("model"));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(run(folder, folder.path("model")), "ok\n");

  status = archive({folder.write("text.o", "text")}, folder.path("third.a"));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  status = archive({folder.path("none.o")}, folder.path("third.a"));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}
