// The reference prints a row of logits for each token, and steps of any size
// compute the same.

// RUN: hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,1,4,1,5" | FileCheck %s --check-prefix=ROWS
// RUN: hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,1,4,1,5,9,2 check=0" -deepseek-run="tokens=3,1,4,1,5,9,2 chunk=1 check=0" -deepseek-run="tokens=3,1,4,1,5,9,2 chunk=3 check=0" | FileCheck %s --check-prefix=STORED
// RUN: hadal-opt %S/Inputs/mla-moe.mlir -deepseek-run="tokens=3,1,4,1,5,9,2 check=0" -deepseek-run="tokens=3,1,4,1,5,9,2 chunk=1 check=0" -deepseek-run="tokens=3,1,4,1,5,9,2 chunk=3 check=0" | FileCheck %s --check-prefix=STORED

// ROWS-COUNT-5: {{^-?[0-9.e-]+( -?[0-9.e-]+){23}$}}
// ROWS-NEXT: {{^}}module {

// STORED: module attributes {deepseek.reference_logits = dense<{{.+}}> : tensor<7x24xf64>}

// What else is in a batch does not change a sequence: two sequences in turn,
// each alone, and with the tokens of one in reverse.

// RUN: hadal-opt %S/Inputs/mla-moe.mlir -deepseek-run="tokens=3,7,1,8 sequences=0,1,0,1" -deepseek-run="tokens=3,1" -deepseek-run="tokens=7,8" -deepseek-run="tokens=1,3,7,8 sequences=5,5,2,2 positions=1,0,0,1" | FileCheck %s --check-prefix=BATCH

// BATCH: {{^}}[[A0:-?[0-9].+$]]
// BATCH-NEXT: {{^}}[[B0:-?[0-9].+$]]
// BATCH-NEXT: {{^}}[[A1:-?[0-9].+$]]
// BATCH-NEXT: {{^}}[[B1:-?[0-9].+$]]
// BATCH-NEXT: {{^}}[[A0]]{{$}}
// BATCH-NEXT: {{^}}[[A1]]{{$}}
// BATCH-NEXT: {{^}}[[B0]]{{$}}
// BATCH-NEXT: {{^}}[[B1]]{{$}}
// BATCH-NEXT: {{^}}[[A1]]{{$}}
// BATCH-NEXT: {{^}}[[A0]]{{$}}
// BATCH-NEXT: {{^}}[[B0]]{{$}}
// BATCH-NEXT: {{^}}[[B1]]{{$}}
// BATCH-NEXT: {{^}}module {

// The logits as a file of NumPy's.

// RUN: hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,1,4 npy=%t.npy" -o /dev/null
// RUN: %python -c "import numpy; a = numpy.load('%t.npy'); print(a.shape, a.dtype)" | FileCheck %s --check-prefix=NPY

// NPY: (3, 24) float64

// A difference is an error that names both values.

// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,1 check=1e-9" -deepseek-run="tokens=3,2 check=1e-9" 2>&1 | FileCheck %s --check-prefix=DIFFERS

// DIFFERS: error: expects the logits of the first run within {{.+}}e-09, but got {{.+}} instead of {{.+}} for token 1, vocabulary entry

// So is what is out of bounds.

// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,24" 2>&1 | FileCheck %s --check-prefix=TOKEN
// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3 positions=64" 2>&1 | FileCheck %s --check-prefix=POSITION
// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3 positions=-1" 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run="tokens=3,1 sequences=0" 2>&1 | FileCheck %s --check-prefix=SEQUENCES
// RUN: not hadal-opt %S/Inputs/dense.mlir -deepseek-run 2>&1 | FileCheck %s --check-prefix=NOTHING
// RUN: not hadal-opt %s -deepseek-run="tokens=1" 2>&1 | FileCheck %s --check-prefix=MODEL

// TOKEN: error: 'deepseek.embed' op expects tokens in [0, 24), but got 24
// POSITION: error: expects positions below the context of 64, but got 64
// NEGATIVE: error: 'deepseek.attention' op expects positions and sequences >= 0, but got -1 and 0
// SEQUENCES: error: expects one sequence for each of 2 tokens, but got 1
// NOTHING: error: expects tokens to run on
// MODEL: error: expects a 'deepseek.model' to run
