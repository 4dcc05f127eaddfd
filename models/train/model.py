# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The DeepSeek-V3 architecture, written for training on a CPU.

The same function as Hugging Face's DeepseekV3ForCausalLM: MLA, YaRN, a dense first layer, then layers of routed and shared
experts chosen by sigmoid scores in groups, with the loss-free balancing bias of V3 (arXiv:2412.19437, section 2.1).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 640,
    "kv_lora_rank": 64,
    "max_position_embeddings": 2048,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 64,
    "moe_layer_freq": 1,
    "n_group": 4,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_interleave": True,
    "rope_scaling": {
        "type": "yarn", "factor": 4, "original_max_position_embeddings": 512,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 2,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 64,
    "vocab_size": 2048,
}


def mscale(factor, m):
    return 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0


def yarn_frequencies(c):
    """The rotary frequencies [rope_dim / 2] of YaRN (arXiv:2309.00071), and the factor on cos and sin."""
    s, dim, base = c["rope_scaling"], c["qk_rope_head_dim"], c["rope_theta"]
    extrapolated = base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)

    def correction(rotations):
        return dim * math.log(s["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(correction(s["beta_fast"])), 0)
    high = min(math.ceil(correction(s["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
    frequencies = extrapolated / s["factor"] * ramp + extrapolated * (1 - ramp)
    return frequencies, mscale(s["factor"], s["mscale"]) / mscale(s["factor"], s["mscale_all_dim"])


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


def linear(i, o, scale=1.0):
    layer = nn.Linear(i, o, bias=False)
    nn.init.normal_(layer.weight, std=scale * i ** -0.5)
    return layer


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.h, self.n, self.r, self.v = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        d, ql, kl, eps = c["hidden_size"], c["q_lora_rank"], c["kv_lora_rank"], c["rms_norm_eps"]
        self.kl = kl
        self.q_a_proj, self.q_a_layernorm = linear(d, ql), RMSNorm(ql, eps)
        self.q_b_proj = linear(ql, self.h * (self.n + self.r))
        self.kv_a_proj_with_mqa, self.kv_a_layernorm = linear(d, kl + self.r), RMSNorm(kl, eps)
        self.kv_b_proj = linear(kl, self.h * (self.n + self.v))
        self.o_proj = linear(self.h * self.v, d, 0.3)
        s = c["rope_scaling"]
        self.scale = (self.n + self.r) ** -0.5 * mscale(s["factor"], s["mscale_all_dim"]) ** 2

    def forward(self, x, cos, sin):
        b, t, _ = x.shape

        def rope(z):  # [.., t, heads, r], neighbors are pairs
            even, odd = z[..., 0::2], z[..., 1::2]
            return torch.cat([even * cos - odd * sin, even * sin + odd * cos], -1)

        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(b, t, self.h, self.n + self.r)
        kv = self.kv_a_proj_with_mqa(x)
        kp = rope(kv[..., None, self.kl:]).expand(b, t, self.h, self.r)
        kv = self.kv_b_proj(self.kv_a_layernorm(kv[..., :self.kl])).view(b, t, self.h, self.n + self.v)
        q = torch.cat([q[..., :self.n], rope(q[..., self.n:])], -1)
        k = torch.cat([kv[..., :self.n], kp], -1)
        # Plain softmax: faster here than the fused kernel, whose backward is slow on a CPU.
        mask = torch.full((t, t), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        p = torch.softmax((q * self.scale).transpose(1, 2) @ k.permute(0, 2, 3, 1) + mask, -1)
        o = p.to(q.dtype) @ kv[..., self.n:].transpose(1, 2)
        return self.o_proj(o.transpose(1, 2).reshape(b, t, self.h * self.v))


class MLP(nn.Module):
    def __init__(self, d, inner):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(d, inner), linear(d, inner), linear(inner, d, 0.3)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.e, self.i = c["hidden_size"], c["n_routed_experts"], c["moe_intermediate_size"]
        self.k, self.groups, self.top_groups, self.rsf = c["num_experts_per_tok"], c["n_group"], c["topk_group"], c["routed_scaling_factor"]
        self.gate = nn.Parameter(torch.randn(self.e, d) * d ** -0.5)
        self.gate_up = nn.Parameter(torch.randn(self.e, 2 * self.i, d) * d ** -0.5)
        self.down = nn.Parameter(torch.randn(self.e, d, self.i) * 0.15 * self.i ** -0.5)
        self.shared_experts = MLP(d, self.i * c["n_shared_experts"])
        self.register_buffer("bias", torch.zeros(self.e))
        self.register_buffer("load", torch.zeros(self.e))

    def route(self, x):
        """Ids and weights [tokens, k]: the best experts of the best groups by biased score, weighted by the score itself."""
        scores = torch.sigmoid(F.linear(x.float(), self.gate.float()))
        with torch.no_grad():
            biased = scores + self.bias
            group = biased.view(-1, self.groups, self.e // self.groups).topk(2, -1).values.sum(-1)
            kept = torch.zeros_like(group, dtype=torch.bool).scatter_(1, group.topk(self.top_groups, -1).indices, True)
            biased = biased.masked_fill(~kept.repeat_interleave(self.e // self.groups, 1), float("-inf"))
            ids = biased.topk(self.k, -1).indices
        w = scores.gather(1, ids)
        return ids, w / (w.sum(-1, keepdim=True) + 1e-20) * self.rsf, scores

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        ids, w, scores = self.route(x)
        order = ids.flatten().argsort()
        counts = torch.bincount(ids.flatten(), minlength=self.e)
        if self.training:
            self.load += counts
        token = order // self.k
        rows = x.index_select(0, token)
        outs = []
        for part, gate_up, down in zip(rows.split(counts.tolist()), self.gate_up.unbind(), self.down.unbind()):
            gate, up = F.linear(part, gate_up).chunk(2, -1)
            outs.append(F.linear(F.silu(gate) * up, down))
        y = torch.cat(outs) * w.flatten().index_select(0, order).unsqueeze(1).to(outs[0].dtype)
        routed = torch.zeros(x.shape, dtype=y.dtype).index_add(0, token, y)
        return (routed + self.shared_experts(x)).view(shape)

    @torch.no_grad()
    def balance(self, rate):
        """Auxiliary-loss-free balancing: raises the bias of experts with too few tokens, lowers that of those with too many."""
        self.bias += rate * torch.sign(self.load.mean() - self.load)
        self.bias -= self.bias.mean()
        spread = (self.load.max() / self.load.mean()).item()
        self.load.zero_()
        return spread


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        d, eps = c["hidden_size"], c["rms_norm_eps"]
        self.input_layernorm, self.self_attn = RMSNorm(d, eps), Attention(c)
        self.post_attention_layernorm = RMSNorm(d, eps)
        self.mlp = MLP(d, c["intermediate_size"]) if index < c["first_k_dense_replace"] else MoE(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.lm_head = linear(c["hidden_size"], c["vocab_size"], 0.1)
        self.frequencies, self.rope_factor = yarn_frequencies(c)

    def forward(self, tokens):
        """Hidden states [batch, tokens, hidden], normalized for the head."""
        angle = torch.outer(torch.arange(tokens.shape[1], dtype=torch.float64), self.frequencies)[:, None, :]
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.norm.weight.dtype
        cos, sin = ((f(angle) * self.rope_factor).to(dtype) for f in (torch.cos, torch.sin))
        x = self.embed_tokens(tokens).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def loss(self, tokens, targets):
        return self.head_loss(self(tokens), targets)

    def head_loss(self, x, targets):
        return F.cross_entropy(self.lm_head(x).flatten(0, 1).float(), targets.flatten())

    def compile_parts(self):
        """Compiles what has static shapes; the experts' row counts change every step, so they stay as they are."""
        torch._dynamo.config.cache_size_limit = 64
        self.head_loss = torch.compile(self.head_loss, dynamic=False)
        for module in self.modules():
            if isinstance(module, (Attention, MLP, RMSNorm)):
                module.forward = torch.compile(module.forward, dynamic=False)

    def tensors(self):
        """The checkpoint, under the names of published V3 checkpoints."""
        out = {}
        for name, value in self.state_dict().items():
            if name.endswith(".load"):
                continue
            full = name if name.startswith("lm_head") else "model." + name
            head = full.rsplit(".", 1)[0]
            if full.endswith("mlp.gate"):
                out[full + ".weight"] = value
            elif full.endswith("mlp.bias"):
                # Only differences of the bias matter; with none below zero no masked score (0 or -inf) can win.
                out[head + ".gate.e_score_correction_bias"] = value - value.min()
            elif full.endswith("mlp.gate_up"):
                for e, w in enumerate(value):
                    out[f"{head}.experts.{e}.gate_proj.weight"], out[f"{head}.experts.{e}.up_proj.weight"] = w.chunk(2, 0)
            elif full.endswith("mlp.down"):
                for e, w in enumerate(value):
                    out[f"{head}.experts.{e}.down_proj.weight"] = w
            else:
                out[full] = value
        return {k: (v.float() if k.endswith("correction_bias") else v.to(torch.bfloat16)).contiguous().clone() for k, v in out.items()}


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized by five Newton-Schulz steps (Jordan et al. 2024), for matrices and stacks of them."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                u = p.grad.lerp(m, group["momentum"])
                wide = u.shape[-2] <= u.shape[-1]
                x = u if wide else u.mT
                x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = x if wide else x.mT
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x.to(p.dtype), alpha=-group["lr"] * max(1, p.shape[-2] / p.shape[-1]) ** 0.5)


def load(folder):
    """A Model in float32 from a folder with config.json and model.safetensors."""
    import json
    import pathlib
    from safetensors.torch import load_file
    folder = pathlib.Path(folder)
    net = Model(json.loads((folder / "config.json").read_text()))
    tensors = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    state = net.state_dict()
    for name in state:
        full = name if name.startswith("lm_head") else "model." + name
        head = full.rsplit(".", 1)[0]

        def experts(part):
            return torch.stack([tensors[f"{head}.experts.{e}.{part}.weight"] for e in range(net.c["n_routed_experts"])])

        if name.endswith(".load"):
            continue
        if name.endswith("mlp.gate"):
            state[name] = tensors[full + ".weight"]
        elif name.endswith("mlp.bias"):
            state[name] = tensors[head + ".gate.e_score_correction_bias"]
        elif name.endswith("mlp.gate_up"):
            state[name] = torch.cat([experts("gate_proj"), experts("up_proj")], 1)
        elif name.endswith("mlp.down"):
            state[name] = experts("down_proj")
        else:
            state[name] = tensors[full]
    net.load_state_dict(state)
    return net.eval()
