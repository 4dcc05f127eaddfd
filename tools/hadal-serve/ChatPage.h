// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The page at /: a chat, all in one file.

#ifndef HADAL_TOOLS_HADAL_SERVE_CHATPAGE_H
#define HADAL_TOOLS_HADAL_SERVE_CHATPAGE_H

namespace hadal::serve {

extern const char chatPage[];

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_CHATPAGE_H
