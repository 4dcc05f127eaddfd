// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Whether the emulated driver finds what it is there to find.

#include "runtime/cuda/Driver.h"

#include "hadal_rt/abi.h"

#include "gtest/gtest.h"
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using namespace hadal_rt::cuda;

namespace {

class EmulatedDriverTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(loadDriver(&driver), HADAL_RT_OK) << hadal_rt_last_error();
    DeviceNumber number;
    ASSERT_EQ(driver->deviceGet(&number, 0), success);
    device = number;
    ASSERT_EQ(driver->contextRetain(&context, device), success);
    ASSERT_EQ(driver->contextPush(context), success);
    ASSERT_EQ(driver->streamCreate(&stream, streamNonBlocking), success);
    ASSERT_EQ(driver->memoryTake(&memory, 16), success);
    void *taken;
    ASSERT_EQ(driver->hostTake(&taken, 16), success);
    pinned = static_cast<uint8_t *>(taken);
  }
  void TearDown() override {
    driver->hostGive(pinned);
    driver->memoryGive(memory);
    if (module)
      driver->moduleUnload(module);
    driver->streamDestroy(stream);
    Context ignored;
    driver->contextPop(&ignored);
    driver->contextRelease(device);
  }

  void send() {
    ASSERT_EQ(driver->copyToDevice(memory, pinned, 16, stream), success);
  }
  std::vector<uint8_t> receive() {
    std::vector<uint8_t> bytes(16);
    driver->copyToHost(bytes.data(), memory, 16, stream);
    driver->streamSynchronize(stream);
    return bytes;
  }
  /// Launches a kernel of FaultyKernels.cpp for 16 items.
  void launch(const char *name, int64_t address, int64_t number) {
    if (!module) {
      const char *path = getenv("HADAL_FAULTY_KERNELS");
      ASSERT_NE(path, nullptr) << "the file that FaultyKernels.cpp becomes";
      std::ifstream file(path, std::ios::binary);
      image.assign(std::istreambuf_iterator<char>(file), {});
      ASSERT_EQ(driver->moduleLoad(&module, image.data()), success);
    }
    Function function;
    ASSERT_EQ(driver->moduleGetFunction(&function, module, name), success);
    hadal_rt_step_t step = {};
    int64_t items = 16;
    void *parameters[] = {&step, &items, &address, &number};
    ASSERT_EQ(driver->launch(function, 16, 1, 1, 16, 1, 1, 0, stream,
                             parameters, nullptr),
              success);
  }
  void launchAndWait(const char *name, int64_t number = 1) {
    launch(name, int64_t(memory), number);
    driver->streamSynchronize(stream);
  }

  const Driver *driver = nullptr;
  DeviceNumber device = 0;
  Context context = nullptr;
  Stream stream = nullptr;
  Module module = nullptr;
  Address memory = 0;
  uint8_t *pinned = nullptr;
  std::string image;
};

using EmulatedDriverDeathTest = EmulatedDriverTest;

} // namespace

static auto violation() { return testing::ExitedWithCode(70); }

TEST_F(EmulatedDriverTest, WorksWhenSomeoneWaits) {
  EXPECT_EQ(receive(), std::vector<uint8_t>(16, 0xff));
  std::fill_n(pinned, 16, uint8_t(1));
  send();
  launch("add", int64_t(memory), 4);
  // Too early: nothing was sent yet.
  std::fill_n(pinned, 16, uint8_t(2));
  EXPECT_EQ(receive(), std::vector<uint8_t>(16, 6));
}

TEST_F(EmulatedDriverTest, LaunchesGraphsAgain) {
  ASSERT_EQ(driver->set(memory, 0, 16, stream), success);
  ASSERT_EQ(driver->captureBegin(stream, captureThreadLocal), success);
  launch("add", int64_t(memory), 3);
  EXPECT_NE(driver->streamSynchronize(stream), success);
  Graph graph;
  GraphExec exec;
  ASSERT_EQ(driver->captureEnd(stream, &graph), success);
  ASSERT_EQ(driver->graphInstantiate(&exec, graph, 0), success);
  ASSERT_EQ(driver->graphDestroy(graph), success);
  EXPECT_EQ(receive(), std::vector<uint8_t>(16, 0));
  driver->graphLaunch(exec, stream);
  driver->graphLaunch(exec, stream);
  EXPECT_EQ(receive(), std::vector<uint8_t>(16, 6));
  driver->graphExecDestroy(exec);
}

TEST_F(EmulatedDriverDeathTest, FindsWrongAddresses) {
  EXPECT_EXIT(*reinterpret_cast<volatile uint8_t *>(memory) = 1, violation(),
              "the program touches memory of the device");
  EXPECT_EXIT(driver->set(memory, 0, 17, stream), violation(),
              "17 bytes at 0 of an allocation of 16");
  EXPECT_EXIT(driver->copyToDevice(memory, &memory, 8, stream), violation(),
              "not in pinned memory");
  EXPECT_EXIT(launch("add", int64_t(uintptr_t(pinned)), 0), violation(),
              "argument 0 of add: 0x[0-9a-f]+ is no address of the device");
  EXPECT_EXIT(launchAndWait("past"), violation(),
              "past touches byte 256 of an allocation of 16");
  EXPECT_EXIT(launchAndWait("slack"), violation(),
              "written 1 bytes past the end of an allocation of 16");
  EXPECT_EXIT(launchAndWait("null", 8), violation(),
              "null touches 0x8, which is no address of the device");
}

TEST_F(EmulatedDriverDeathTest, FindsUseOfWhatWasGivenBack) {
  Address other;
  ASSERT_EQ(driver->memoryTake(&other, 16), success);
  ASSERT_EQ(driver->memoryGive(other), success);
  EXPECT_EXIT(driver->set(other, 0, 1, stream), violation(), "was given back");
  EXPECT_EXIT(driver->memoryGive(other), violation(), "was given back");
  send();
  EXPECT_EXIT(driver->hostGive(pinned), violation(),
              "given back while a stream still sends it");
  // That of another, whose work is not done.
  void *another;
  ASSERT_EQ(driver->hostTake(&another, 16), success);
  EXPECT_EQ(driver->hostGive(another), success);
  driver->streamSynchronize(stream);
}

TEST_F(EmulatedDriverDeathTest, FindsWhatIsLeft) {
  EXPECT_EXIT(exit(0), testing::ExitedWithCode(71),
              "1 allocations were not given back");
}
