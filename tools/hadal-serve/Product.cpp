// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model that is served: a library that hadalc made, its weights and text.

#include "Product.h"

#include "../hadal-run/ElfFile.h"
#include "../hadal-run/TextSections.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

using namespace hadal;
using namespace hadal::serve;

/// Loads the library at \p path. \returns Its model, or null with \p error.
static const hadal_rt_model_t *loadModel(const std::string &path,
                                         std::string &error) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    error = path + ": cannot open: " + strerror(errno);
    return nullptr;
  }
  std::string symbol;
  error = run::checkLibrary(descriptor, symbol);
  const void *model = nullptr;
  if (error.empty()) {
    // What was checked, even if the name has another file by now.
    std::string checked = "/proc/self/fd/" + std::to_string(descriptor);
    void *library = dlopen(checked.c_str(), RTLD_NOW | RTLD_LOCAL);
    model = library ? dlsym(library, symbol.c_str()) : nullptr;
    if (!model)
      error = std::string("cannot load: ") + dlerror();
  }
  ::close(descriptor);
  if (!model)
    error = path + ": " + error;
  return static_cast<const hadal_rt_model_t *>(model);
}

bool Product::open(const std::string &path, const std::string &weightsPath,
                   const std::string &format, std::string &error) {
  static constexpr std::string_view suffix = ".so";
  std::string stem = path;
  if (stem.size() > suffix.size() &&
      !stem.compare(stem.size() - suffix.size(), suffix.size(), suffix))
    stem.resize(stem.size() - suffix.size());
  std::string library = stem + std::string(suffix);
  // A file of another name, or one that is no library, is reported as it is.
  if (access(library.c_str(), F_OK))
    library = path;
  model = loadModel(library, error);
  if (!model)
    return false;
  name = stem.substr(stem.rfind('/') + 1);
  std::string weightsFile =
      weightsPath.empty() ? stem + ".weights" : weightsPath;
  if (hadal_rt_model_check(model) ||
      weights.open(*model, weightsFile.c_str())) {
    error = hadal_rt_last_error();
    return false;
  }
  tokenizer = run::loadTokenizer(weights, error);
  if (!tokenizer)
    return false;
  trie = std::make_unique<text::TokenTrie>(*tokenizer);
  chatFormat = format.empty()
                   ? run::findChatFormat(weights, *tokenizer, chatError)
                   : text::parseChatFormat(format, error);
  return format.empty() || chatFormat;
}
