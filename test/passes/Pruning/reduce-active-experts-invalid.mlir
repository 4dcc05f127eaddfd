// What cannot be is refused, and nothing changes.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-reduce-active-experts="top-k=4"

#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 3, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>

func.func @more(%l: tensor<?x4xf32>) {
  // expected-error @below {{expects top-k of 1 to 3, the experts of a token, but got 4}}
  %e, %w = deepseek.router %l by #routing : tensor<?x4xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 5, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>

func.func @other_reader(%l: tensor<?x8xf32>) -> tensor<?x5xf32> {
  // expected-error @below {{expects only experts to read what it chooses, but 'func.return' does, too}}
  %e, %w = deepseek.router %l by #routing : tensor<?x8xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return %w : tensor<?x5xf32>
}

// -----

// expected-error @below {{expects a model with experts for top-k 4, but it has no router}}
module {
}
