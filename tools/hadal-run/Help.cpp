// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What --help says of the options of emitted executables. With what stands
// before it, it fits a screen of 24 lines and 80 columns.

#include "Help.h"

// Not told: --chunk N (tokens a step) is for tests, and --bench, --eval and
// --values FILE (results of all ops) are what hadal-bench, hadal-eval and
// hadal-diff call.
const char hadal::run::runHelp[] =
    "  --chat TEXT        answer TEXT as a chat model; with --system TEXT\n"
    "  --prompt TEXT      continue TEXT\n"
    "  --tokens 1,2,3     continue token ids; @FILE reads them from FILE\n"
    "How much, and how to choose (defaults in parentheses):\n"
    "  -n N               tokens to generate (256; 0 with --logits)\n"
    "  --temperature T    0 takes the likeliest token (0)\n"
    "  --top-k K          choose among the K likeliest; 0: all (0)\n"
    "  --top-p P          ... that together have probability P (1)\n"
    "  --min-p P          ... at least P times as likely as the first (0)\n"
    "  --repetition-penalty R   weaken tokens seen before (1)    "
    "--seed S (0)\n"
    "Input, output and resources:\n"
    "  --chat-format F    deepseek-v3, ... (what the model says)  "
    "--thinking\n"
    "  --logits FILE.npy  write float32 [tokens, vocab] of the prompt\n"
    "  --json             print one JSON object   "
    "--json-schema FILE  follow it\n"
    "  --profile          time of each kernel; --trace FILE: for Perfetto\n"
    "  --threads N        (all cores)\n"
    "  --context N        KV memory in tokens (what the run needs)   "
    "--adapter NAME\n"
    "  --weights FILE     (in this program, or beside it with .weights)\n";

const char hadal::run::benchHelp[] =
    "  -p N    tokens of a prefill; 0: none (512)\n"
    "  -n N    tokens of a decode, one a step; 0: none (128)\n"
    "  -b N    most tokens of a prefill's step (512)\n"
    "  -d LIST tokens that come before either (0)\n"
    "  -t N    threads; 0: all cores (0)\n"
    "  -r N    repeats; their median is printed (3)\n"
    "  --json  print one JSON object\n"
    "  --profile     time, bytes and operations of each kernel, from a run "
    "more\n"
    "  --trace FILE  the same as a trace for Perfetto, with every thread\n"
    "  --weights FILE (in OUT, or beside it with .weights)\n"
    "bandwidth: share of it that weights and cache take; peak: share of the "
    "time\n"
    "that the products would take at the peaks of int8 and f32. Both, with min "
    "and\n"
    "max, of what was measured right before and after each repeat.\n";
