// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Manifold-constrained hyper-connections: several residual streams of a token
// that each sublayer reads as one and writes back to all.

#ifndef HADAL_DEEPSEEK_HYPERCONNECTION_OPS
#define HADAL_DEEPSEEK_HYPERCONNECTION_OPS

def DeepSeek_HyperExpandOp : DeepSeek_Op<"hyper_expand", [Pure]> {
  let summary = "Starts the residual streams of a token with copies of one row";
  let description = [{
    result[t, j * hidden + i] = input[t, i] for each of `streams` streams j.
    - (C1) `streams > 0`, and the result is `[tokens, streams * hidden]` for an
      `input` of `[tokens, hidden]`.
  }];
  let arguments = (ins Activations:$input, I64Attr:$streams);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `streams` $streams attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_HyperMixOp : DeepSeek_Op<"hyper_mix", [Pure]> {
  let summary = "Reads residual streams as one row, and says how to write them";
  let description = [{
    With x the whole row of `input`, X_j its stream j of m, and

        u_i = sum_k weight[i, k] * x[k] / sqrt(mean_k(x[k]^2) + norm_epsilon)
        pre_j = sigmoid(u_j * scale[0] + base[j]) + epsilon
        post_j = 2 * sigmoid(u_(m + j) * scale[1] + base[m + j])
        A_ij = u_(2m + m i + j) * scale[2] + base[2m + m i + j]

    the results are `sublayer[t]` = sum_j pre_j X_j, `post`, and `comb`: the
    matrix C = softmax of each row of A, plus `epsilon`, whose columns are then
    divided by their sum + `epsilon`; `iterations` - 1 times more, its rows and
    then its columns are (Sinkhorn & Knopp 1967), which makes it doubly
    stochastic.

    Source: DeepSeek-V4 `inference/model.py`; hyper-connections are Zhu et al.
    2024, arXiv:2409.19606, and their constraint Xie et al. 2025,
    arXiv:2512.24880.
    - (C1) `streams` m is from 1 to 8; the columns of `input` are a multiple of
      it.
    - (C2) `weight` is `[(2 + m) m, columns]`, `base` `[(2 + m) m]` and `scale`
      `[3]`, all in f32.
    - (C3) `sublayer` is `[tokens, columns / m]`, `post` `[tokens, m]` and
      `comb` `[tokens, m * m]`, row by row.
    - (C4) `iterations`, `norm_epsilon` and `epsilon` are positive.
  }];
  let arguments = (ins Activations:$input, 2DTensorOf<[F32]>:$weight,
                       1DTensorOf<[F32]>:$base, 1DTensorOf<[F32]>:$scale,
                       I64Attr:$streams, I64Attr:$iterations,
                       F32Attr:$norm_epsilon, F32Attr:$epsilon);
  let results = (outs Activations:$sublayer, Activations:$post,
                      Activations:$comb);
  let assemblyFormat = [{
    $input `,` $weight `,` $base `,` $scale `streams` $streams `iterations`
    $iterations `norm_epsilon` $norm_epsilon `epsilon` $epsilon attr-dict `:`
    type($input) `,` type($weight) `,` type($base) `,` type($scale) `->`
    type($sublayer) `,` type($post) `,` type($comb)
  }];
  let hasVerifier = 1;
}

def DeepSeek_HyperUpdateOp : DeepSeek_Op<"hyper_update", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Writes what a sublayer computed to all residual streams";
  let description = [{
    Stream k of the result is post_k y + sum_j C_jk X_j, with y the row of
    `sublayer` and `post`, C = `comb` those of `deepseek.hyper_mix`. C is used
    transposed: it mixes columns.
    - (C1) for `input` of m D columns, `sublayer` is `[tokens, D]`, `post`
      `[tokens, m]` and `comb` `[tokens, m * m]`.
  }];
  let arguments = (ins Activations:$input, Activations:$sublayer,
                       Activations:$post, Activations:$comb);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $sublayer `,` $post `,` $comb attr-dict `:` type($input) `,`
    type($sublayer) `,` type($post) `,` type($comb)
  }];
  let hasVerifier = 1;
}

def DeepSeek_HyperHeadOp : DeepSeek_Op<"hyper_head", [Pure]> {
  let summary = "Reads the residual streams after the last layer as one row";
  let description = [{
    result[t] = sum_j pre_j X_j, with pre as in `deepseek.hyper_mix`.
    - (C1) `streams` m is from 1 to 8; the columns of `input` are a multiple of
      it, and the result is `[tokens, columns / m]`.
    - (C2) `weight` is `[m, columns]`, `base` `[m]` and `scale` `[1]`.
    - (C3) `norm_epsilon` and `epsilon` are positive.
  }];
  let arguments = (ins Activations:$input, 2DTensorOf<[F32]>:$weight,
                       1DTensorOf<[F32]>:$base, 1DTensorOf<[F32]>:$scale,
                       I64Attr:$streams, F32Attr:$norm_epsilon,
                       F32Attr:$epsilon);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $weight `,` $base `,` $scale `streams` $streams `norm_epsilon`
    $norm_epsilon `epsilon` $epsilon attr-dict `:` type($input) `,`
    type($weight) `,` type($base) `,` type($scale) `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // HADAL_DEEPSEEK_HYPERCONNECTION_OPS
