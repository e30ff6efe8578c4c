"""A small trainable Qwen3-MoE with the arithmetic of transformers' Qwen3MoeForCausalLM (tied embeddings).

Letters: B rows, T tokens, C hidden, H query heads, K key/value heads, D head size, E experts, I expert width, N = B*T.
"""
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

COMPUTE = torch.bfloat16  # of the matrix products; check_export.py compares in float32


@dataclasses.dataclass
class Config:
    vocab_size: int = 4096
    hidden_size: int = 384
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 128
    experts: int = 8
    experts_per_token: int = 2
    expert_width: int = 128
    rope_theta: float = 1e7
    eps: float = 1e-6
    max_positions: int = 32768


def rms_norm(x, weight, eps):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def norm_rope(x, weight, cos, sin, eps):
    """Head norm, then rotation. x [B, T, heads, D], cos/sin [B, T, 1, D]."""
    x = rms_norm(x, weight, eps)
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
    return (x * cos + rotated * sin).to(COMPUTE)


def silu_mul(gate_up):
    gate, up = gate_up.float().chunk(2, -1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def masked_softmax(s, mask):
    return torch.softmax(s.float() + mask, -1).to(s.dtype)


def softmax_grad(dp, p, do, o):
    delta = (do.float() * o.float()).sum(-1, keepdim=True)
    return ((dp.float() - delta) * p.float()).to(dp.dtype)


def compile_pieces():
    """Fuses the elementwise pieces; worth it for training, not needed for evaluation."""
    global rms_norm, norm_rope, silu_mul, masked_softmax, softmax_grad
    torch._dynamo.config.recompile_limit = 64
    masked_softmax = torch.compile(masked_softmax, dynamic=False)
    softmax_grad = torch.compile(softmax_grad, dynamic=False)
    norm_rope = torch.compile(norm_rope, dynamic=False)
    silu_mul = torch.compile(silu_mul, dynamic=True)
    rms_norm = torch.compile(rms_norm, dynamic=False)


class ShortAttention(torch.autograd.Function):
    """Attention with the scores held whole: faster than the fused kernel for up to about 512 queries.

    q [B*K, G*T, D] already scaled, k and v [B*K, S, D], mask [T, S] additive, G = H / K.
    """

    @staticmethod
    def forward(ctx, q, k, v, mask):
        s = torch.bmm(q, k.transpose(1, 2))
        p = masked_softmax(s.view(s.shape[0], -1, *mask.shape), mask).view(s.shape)
        o = torch.bmm(p, v)
        ctx.save_for_backward(q, k, v, p, o)
        return o

    @staticmethod
    def backward(ctx, do):
        q, k, v, p, o = ctx.saved_tensors
        dv = torch.bmm(p.transpose(1, 2), do)
        ds = torch.bmm(do, v.transpose(1, 2))
        ds = softmax_grad(ds, p, do, o)
        return torch.bmm(ds, k), torch.bmm(ds.transpose(1, 2), q), dv, None


def blocked_attention(q, k, v, block=256):
    """Causal attention without gradients, in blocks of queries: half the fused kernel's time without AMX.

    q [B, H, T, D], k and v [B, K, T, D] -> [B, H, T, D].
    """
    (b, h, t, d), groups = q.shape, k.shape[1]
    q, k, v = q * (1 / math.sqrt(d)), k.reshape(b * groups, t, d), v.reshape(b * groups, t, d)
    future, out = torch.full((block, block), float("-inf"), dtype=q.dtype).triu(1), []
    for a in range(0, t, block):
        e = min(t, a + block)
        s = torch.bmm(q[:, :, a:e].reshape(b * groups, -1, d), k[:, :e].transpose(1, 2))
        s.view(b * groups, -1, e - a, e)[..., a:] += future[:e - a, :e - a]
        out.append(torch.bmm(torch.softmax(s, -1), v[:, :e]).view(b, h, e - a, d))
    return torch.cat(out, 2)


class Dispatch(torch.autograd.Function):
    """Rows of x [N, C] copied to their experts' places: [R, C]. `source` [R] names the token, `place` [N*k] the row."""

    @staticmethod
    def forward(ctx, x, source, place, k):
        ctx.save_for_backward(place)
        ctx.k = k
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx, g):
        (place,) = ctx.saved_tensors
        return g.index_select(0, place).view(-1, ctx.k, g.shape[-1]).sum(1), None, None, None


class Combine(torch.autograd.Function):
    """The inverse: [R, C] -> [N*k, C]; rows that only pad get a zero gradient."""

    @staticmethod
    def forward(ctx, y, place):
        ctx.save_for_backward(place)
        ctx.rows = y.shape[0]
        return y.index_select(0, place)

    @staticmethod
    def backward(ctx, g):
        return g.new_zeros(ctx.rows, g.shape[-1]).index_copy_(0, ctx.saved_tensors[0], g), None


def expert_places(chosen, experts):
    """chosen [N, k] -> (source [R], place [N*k], padded rows per expert, true rows per expert).

    Each expert's rows are padded to a multiple of 256, so that the matrix library meets few different shapes.
    """
    flat = chosen.reshape(-1)
    counts = torch.bincount(flat, minlength=experts)
    padded = (counts + 255) // 256 * 256
    order = torch.argsort(flat, stable=True)
    shift = (padded.cumsum(0) - padded) - (counts.cumsum(0) - counts)
    place_sorted = torch.arange(flat.numel()) + shift[flat[order]]
    place = torch.empty_like(order)
    place[order] = place_sorted
    source = torch.zeros(int(padded.sum()), dtype=torch.long)
    source[place_sorted] = order // chosen.shape[1]
    return source, place, padded.tolist(), counts


class Layer(nn.Module):
    def __init__(self, c, depth_scale):
        super().__init__()
        self.c = c
        h, d = c.hidden_size, c.head_dim

        def matrix(*shape, scale=1.0):
            return nn.Parameter(torch.randn(*shape) * scale / math.sqrt(shape[-1]))

        self.ln1, self.ln2 = nn.Parameter(torch.ones(h)), nn.Parameter(torch.ones(h))
        self.q_norm, self.k_norm = nn.Parameter(torch.full((d,), 1.2)), nn.Parameter(torch.full((d,), 1.2))
        self.wq, self.wk, self.wv = matrix(c.heads * d, h), matrix(c.kv_heads * d, h), matrix(c.kv_heads * d, h)
        self.wo = matrix(h, c.heads * d, scale=depth_scale)
        self.router = matrix(c.experts, h)
        self.gate, self.up = matrix(c.experts, c.expert_width, h), matrix(c.experts, c.expert_width, h)
        self.down = matrix(c.experts, h, c.expert_width, scale=depth_scale)

    def qkv(self, x, cos, sin):
        c, (b, t, _) = self.c, x.shape
        n = rms_norm(x, self.ln1, c.eps).to(COMPUTE)
        q = F.linear(n, self.wq.to(COMPUTE)).view(b, t, c.heads, c.head_dim)
        k = F.linear(n, self.wk.to(COMPUTE)).view(b, t, c.kv_heads, c.head_dim)
        v = F.linear(n, self.wv.to(COMPUTE)).view(b, t, c.kv_heads, c.head_dim)
        q, k = norm_rope(q, self.q_norm, cos, sin, c.eps), norm_rope(k, self.k_norm, cos, sin, c.eps)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attention(self, q, k, v, mask):
        """q [B, H, T, D], k and v [B, K, S, D] -> [B, T, H*D]; mask None means causal with S == T."""
        c, (b, _, t, d) = self.c, q.shape
        g, n = c.heads // c.kv_heads, k.shape[2]
        if t <= 512 and torch.is_grad_enabled():
            if mask is None:
                mask = torch.full((t, t), float("-inf"), dtype=q.dtype).triu(1)
            o = ShortAttention.apply((q * (1 / math.sqrt(d))).reshape(b * c.kv_heads, g * t, d),
                                     k.reshape(b * c.kv_heads, n, d), v.reshape(b * c.kv_heads, n, d), mask.to(q.dtype))
            o = o.view(b, c.heads, t, d)
        elif mask is None and not torch.is_grad_enabled():
            o = blocked_attention(q, k, v)
        else:
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        return F.linear(o.transpose(1, 2).reshape(b, t, c.heads * d), self.wo.to(COMPUTE))

    def moe(self, x):
        """x [B, T, C] -> (output, load-balance loss)."""
        c, shape = self.c, x.shape
        n = rms_norm(x, self.ln2, c.eps).to(COMPUTE).view(-1, shape[-1])
        prob = torch.softmax(F.linear(n, self.router.to(COMPUTE)).float(), -1)
        top, chosen = torch.topk(prob, c.experts_per_token, -1)
        top = top / top.sum(-1, keepdim=True)
        source, place, sizes, counts = expert_places(chosen, c.experts)
        rows = Dispatch.apply(n, source, place, c.experts_per_token).split(sizes)
        gate_up, down = torch.cat((self.gate, self.up), 1).to(COMPUTE), self.down.to(COMPUTE)
        inner = silu_mul(torch.cat([F.linear(r, w) for r, w in zip(rows, gate_up)])).split(sizes)
        y = torch.cat([F.linear(r, w) for r, w in zip(inner, down)])
        y = Combine.apply(y, place).view(-1, c.experts_per_token, shape[-1])
        y = (y * top.unsqueeze(-1).to(y.dtype)).sum(1)
        share = counts / chosen.numel()
        return y.view(shape), c.experts * (share * prob.mean(0)).sum()


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Parameter(torch.randn(c.vocab_size, c.hidden_size) * 0.5)
        self.layers = nn.ModuleList(Layer(c, 1 / math.sqrt(2 * c.layers)) for _ in range(c.layers))
        self.norm = nn.Parameter(torch.full((c.hidden_size,), 0.2))

    def angles(self, positions):
        """cos, sin [B, T, 1, D] for positions [B, T]."""
        half = torch.arange(0, self.c.head_dim, 2, dtype=torch.float32) / self.c.head_dim
        a = positions.float().unsqueeze(-1) / self.c.rope_theta ** half
        a = torch.cat((a, a), -1).unsqueeze(2)
        return a.cos(), a.sin()

    def forward(self, ids, positions, cache=None, mask=None):
        """Hidden states [B, T, C] after the last norm, and the mean load-balance loss.

        cache: per layer (k, v) of the tokens before, or an empty list to be filled; mask: additive [T, S] with a cache.
        """
        cos, sin = self.angles(positions)
        x = self.embed[ids].float()
        balance = 0.0
        for i, layer in enumerate(self.layers):
            q, k, v = layer.qkv(x, cos, sin)
            if cache is not None:
                if i < len(cache):
                    k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                else:
                    cache.append((k, v))
            x = x + layer.attention(q, k, v, mask)
            y, aux = layer.moe(x)
            x = x + y
            balance = balance + aux / self.c.layers
        return rms_norm(x, self.norm, self.c.eps), balance

    def logits(self, hidden):
        return F.linear(hidden.to(COMPUTE), self.embed.to(COMPUTE)).float()


LANES = [(128, 64)] + [(192 + 32 * i, 32) for i in range(6)]  # (first residual dim, dims) for the tokens 1..7 back
MATCH = [12, 8, 8, 5, 5, 5, 5]  # dims of a layer-1 key that compare each lane; 48 in all


@torch.no_grad()
def seed_induction(model):
    """Start from a hand-made induction circuit instead of pure noise; training refines all of it.

    Residual dims: 0 constant, 1..127 the token, LANES: projections of the tokens 1 to 7 back. Layer 0 fills the lanes
    (heads that look a fixed offset back, made of RoPE's fast pairs); layer 1 looks for the place whose previous tokens
    are the present ones (RoPE's slow pairs) and copies its token.
    """
    c = model.c
    assert c.hidden_size == 384 and c.head_dim == 128 and c.heads == 8 and c.kv_heads == 2
    d, half = c.head_dim, c.head_dim // 2
    model.embed.mul_(0.04)
    model.embed[:, 1:128] = torch.randn(c.vocab_size, 127) * 0.8
    model.embed[:, 0] = 5.0
    for layer in model.layers:
        layer.wo.mul_(0.3)
        layer.down.mul_(0.5)

    project = torch.linalg.qr(torch.randn(127, 64))[0].T  # [64, 127], orthonormal rows
    freq = c.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
    amp = torch.zeros(half)
    amp[:4], amp[4:16] = 1.5, 0.7
    first = model.layers[0]
    first.q_norm.fill_(1.8)
    first.k_norm.fill_(1.8)
    for kv in range(2):
        first.wk[kv * d:(kv + 1) * d] *= 0.1
        first.wk[kv * d:kv * d + half, 0] = amp
        first.wv[kv * d:(kv + 1) * d] = 0
        first.wv[kv * d + torch.arange(127), torch.arange(1, 128)] = 1.0
    for h, (start, rows) in enumerate(LANES):
        first.wq[h * d:(h + 1) * d] *= 0.1
        first.wq[h * d:h * d + half, 0] = amp * torch.cos((h + 1) * freq)
        first.wq[h * d + half:(h + 1) * d, 0] = -amp * torch.sin((h + 1) * freq)
        first.wo[:, h * d:(h + 1) * d] = 0
        first.wo[start:start + rows, h * d:h * d + 127] = 0.53 * project[:rows]

    second = model.layers[1]
    second.q_norm.fill_(1.5)
    second.k_norm.fill_(1.5)
    slow = torch.cat((torch.arange(40, half), torch.arange(40, half) + half))[torch.randperm(48)]
    for kv in range(2):
        heads = range(4 * kv, 4 * kv + 4)
        key = second.wk[kv * d:(kv + 1) * d]
        key *= 0.05
        second.wv[kv * d:(kv + 1) * d] = 0
        second.wv[kv * d + torch.arange(127), torch.arange(1, 128)] = 1.0
        for h in heads:
            second.wq[h * d:(h + 1) * d] *= 0.05
            second.wo[:, h * d:(h + 1) * d] *= 0.3
            second.wo[torch.arange(1, 128), h * d + torch.arange(127)] = 0.32
        at = 0
        for lane, n in enumerate(MATCH):
            for j in range(n):
                row, dim = kv * n + j, slow[at + j]
                key[dim, LANES[lane][0] + row] = 1.0
                for h in heads:
                    if lane == 0:
                        second.wq[h * d + dim, 1:128] = project[row]
                    else:
                        second.wq[h * d + dim, LANES[lane - 1][0] + row] = 1.0
            at += n
