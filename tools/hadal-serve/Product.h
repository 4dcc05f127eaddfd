// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model that is served: a library that hadalc made, its weights and text.

#ifndef HADAL_TOOLS_HADAL_SERVE_PRODUCT_H
#define HADAL_TOOLS_HADAL_SERVE_PRODUCT_H

#include "hadal_rt/hadal_rt.hpp"
#include "hadal_text/chat.h"
#include "hadal_text/constraint.h"
#include "hadal_text/tokenizer.h"

#include <memory>
#include <optional>
#include <string>

namespace hadal::serve {

struct Product {
  /// Loads the shared library that `hadalc --emit=lib` made; \p path may lack
  /// its ".so". It is looked at before any code of it runs.
  ///
  /// \param weightsPath Empty: beside the library.
  /// \param chatFormat  Empty: what the model says.
  /// \returns False, and one line in \p error, if there is something wrong.
  bool open(const std::string &path, const std::string &weightsPath,
            const std::string &chatFormat, std::string &error);

  const hadal_rt_model_t *model = nullptr; ///< Never unloaded.
  std::string name;                        ///< Of the file.
  rt::Weights weights;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::TokenTrie> trie; ///< Of the tokenizer.
  std::optional<text::ChatFormat> chatFormat;
  std::string chatError; ///< Why there is no chat format.
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_PRODUCT_H
