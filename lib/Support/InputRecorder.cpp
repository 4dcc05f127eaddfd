// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a compilation has read, for the build systems that ask.

#include "lib/Support/InputRecorder.h"

using namespace hadal;

static thread_local InputRecorder *current = nullptr;

InputRecorder::InputRecorder() : outer(current) { current = this; }

InputRecorder::~InputRecorder() { current = outer; }

void InputRecorder::note(llvm::StringRef path) {
  if (current)
    current->paths.insert(path.str());
}
