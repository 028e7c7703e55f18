"""What the layers of published transformers compute, against PyTorch's, SciPy's and plain loops."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from scipy.fft import dct
from torch import Tensor, nn

from sartor.blocks.relative import RelativeAttention
from sartor.blocks.sequence import DynamicConvolution, LinearTransform, WeightedAttention
from sartor.blocks.translation import CrossAttention, DecoderLayer, EncoderLayer
from sartor.measure.counts import counts_of
from sartor.models.flexibert import Stacked, build_flexibert
from sartor.models.hat import build_hat
from sartor.space.flexibert import flexibert_space
from sartor.space.hat import hat_space

SMALL = hat_space(widths=(16, 24), hidden=(16, 24, 32))


def take(into: nn.MultiheadAttention, attention: Any) -> None:
    """Give PyTorch's attention the weights of one of ours."""
    parts = (attention.query, attention.key, attention.value)
    into.in_proj_weight.data = torch.cat([part.weight for part in parts]).data
    into.in_proj_bias.data = torch.cat([part.bias for part in parts]).data
    into.out_proj.load_state_dict(attention.out.state_dict())


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_an_encoder_layer_is_pytorchs():
    torch.manual_seed(0)
    mine = EncoderLayer(16, inner=16, heads=4, hidden=24)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    take(theirs.self_attn, mine.attention)
    for layer, its in ((theirs.linear1, mine.perceptron[0]), (theirs.linear2, mine.perceptron[2])):
        layer.load_state_dict(its.state_dict())
    x, padded = torch.randn(2, 7, 16), torch.zeros(2, 7, dtype=torch.bool)
    padded[1, 4:] = True
    close(mine(x, ~padded[:, None, None]), theirs(x, src_key_padding_mask=padded))


def test_a_decoder_layer_is_pytorchs():
    torch.manual_seed(0)
    mine = DecoderLayer(16, 16, inner=16, heads=4, cross_heads=4, hidden=24)
    theirs = nn.TransformerDecoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    take(theirs.self_attn, mine.attention)
    take(theirs.multihead_attn, mine.cross)
    for layer, its in ((theirs.linear1, mine.perceptron[0]), (theirs.linear2, mine.perceptron[2])):
        layer.load_state_dict(its.state_dict())
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    close(mine(x, memory), theirs(x, memory, tgt_mask=nn.Transformer.generate_square_subsequent_mask(5)))


def test_a_translation_sees_no_token_that_is_yet_to_come_and_no_padding():
    rng = random.Random(0)
    for _ in range(5):
        network = build_hat(SMALL.sample(rng), vocabulary=40, inner=16).eval()
        source, target = torch.randint(4, 40, (2, 6)), torch.randint(4, 40, (2, 8))
        before = network(source, target)
        changed = target.clone()
        changed[:, 5:] = 4
        close(network(source, changed)[:, :5], before[:, :5])
        close(network(torch.cat([source, torch.ones(2, 3, dtype=torch.long)], 1), target), before)


def test_a_span_takes_in_earlier_encoder_layers():
    """Where the last encoder layers are made to give nothing new, a span of three differs from one: it sees others."""
    options = dict(SMALL.smallest())
    source, target = torch.randint(4, 40, (2, 6)), torch.randint(4, 40, (2, 8))
    found = []
    for span in (1, 2, 3):
        torch.manual_seed(0)
        arch = SMALL.canonical(options | {"decoder0.span": span})
        network = build_hat(arch, vocabulary=40, inner=16).eval()
        seen: list[Tensor] = []
        network.decoder[0].register_forward_pre_hook(lambda module, given, into=seen: into.append(given[1]))
        outputs: list[Tensor] = []
        for layer in network.encoder:
            layer.register_forward_hook(lambda module, given, out, into=outputs: into.append(out))
        found.append(network(source, target))
        close(seen[0], torch.cat(outputs[::-1][:span], 1))
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[1], found[2])


def test_hats_published_network_has_its_48_million_parameters():
    """WMT'14 on a Raspberry Pi, 6.9 s: 48M without embeddings (arXiv:2005.14187, Table 2), in the space searched."""
    options: dict[str, Any] = {"encoder.width": 512, "decoder.width": 512, "decoder.layers": 5}
    lists = {
        "encoder{}.hidden": [3072] * 6,
        "encoder{}.heads": [8, 4, 8, 8, 8, 8],
        "decoder{}.hidden": [2048, 2048, 3072, 3072, 2048],
        "decoder{}.heads": [8, 8, 8, 4, 8],
        "decoder{}.cross_heads": [4, 8, 8, 8, 8],
        "decoder{}.span": [1, 2, 2, 2, 1],
    }
    options |= {name.format(i): option for name, held in lists.items() for i, option in enumerate(held)}
    network = build_hat(hat_space().canonical(options), vocabulary=8)
    millions = sum(p.numel() for n, p in network.named_parameters() if n != "embedding.weight") / 1e6
    assert round(millions) == 48


def test_macs_of_a_translation_are_those_by_hand():
    arch, n, m, inner, words = SMALL.largest(), 5, 7, 16, 40
    macs = counts_of(
        build_hat(arch, vocabulary=words, inner=inner), (torch.full((1, n), 4), torch.full((1, m), 4))
    ).macs
    width, hidden = 24, 32
    attention = lambda q, k: width * inner * (2 * q + 2 * k) + 2 * q * k * inner
    perceptron = 2 * width * hidden
    encoder = 6 * (attention(n, n) + n * perceptron)
    decoder = 6 * (attention(m, m) + attention(m, 3 * n) + m * perceptron)
    assert macs == encoder + decoder + m * width * words


def test_fewer_heads_are_the_first_of_more():
    """What a supernet slices: prefixes of the weights give what the first heads alone would add."""
    torch.manual_seed(0)
    more, fewer = (RelativeAttention(6, heads=heads, per_head=4, side=3) for heads in (3, 1))
    whole = more.state_dict()
    fewer.load_state_dict(
        {name: whole[name][tuple(map(slice, tensor.shape))] for name, tensor in fewer.state_dict().items()}
    )
    more.out.weight.data[:, 4:] = 0
    x = torch.randn(2, 10, 6)
    torch.testing.assert_close(fewer(x), more(x))


def test_relative_attention_by_loops():
    torch.manual_seed(0)
    block = RelativeAttention(6, heads=2, per_head=4, side=3)
    block.keys.rows.data.mul_(20)
    x = torch.randn(1, 10, 6)
    q, k, v = block.mix(x)[0].unflatten(-1, (2, 3, 4)).unbind(2)
    furthest = 14

    def vector(table: Any, a: int, b: int) -> Tensor:
        if a == 0 or b == 0:
            return table.rows[0] + table.columns[0]
        (row_a, column_a), (row_b, column_b) = divmod(a - 1, 3), divmod(b - 1, 3)
        return table.rows[row_b - row_a + furthest + 1] + table.columns[column_b - column_a + furthest + 1]

    heads = []
    for head in range(2):
        rows = []
        for a in range(10):
            scores = torch.stack([q[a, head] @ (k[b, head] + vector(block.keys, a, b)) / 2 for b in range(10)])
            weights = scores.softmax(0)
            rows.append(sum(weights[b] * (v[b, head] + vector(block.values, a, b)) for b in range(10)))
        heads.append(torch.stack(rows))
    close(block(x)[0], block.out(torch.cat(heads, 1)))


def test_a_linear_transform_is_the_discrete_fourier_one():
    x = torch.randn(2, 7, 12)
    wanted = torch.fft.fft2(x.unflatten(-1, (3, 4)).transpose(1, 2)).real.transpose(1, 2).flatten(2)
    close(LinearTransform(12, 3, cosine=False)(x), wanted)


def test_a_linear_transform_is_scipys_cosine_one():
    x = torch.randn(2, 7, 12)
    heads = x.unflatten(-1, (3, 4)).transpose(1, 2).numpy()
    wanted = torch.from_numpy(dct(dct(heads, axis=-1), axis=-2)).transpose(1, 2).flatten(2)
    close(LinearTransform(12, 3, cosine=True)(x), wanted)


def test_a_dynamic_convolution_by_loops():
    torch.manual_seed(0)
    block, x = DynamicConvolution(6, 2, kernel=5), torch.randn(1, 4, 6)
    span = block.span(x.transpose(1, 2)).transpose(1, 2)[0]
    wanted = torch.zeros(4, 6)
    for i in range(4):
        kernels = block.kernels(block.query(x)[0, i] * span[i]).view(2, 5).softmax(1)
        for head in range(2):
            for k in range(5):
                if 0 <= i + k - 2 < 4:
                    mine = slice(3 * head, 3 * head + 3)
                    wanted[i, mine] += kernels[head, k] * block.value(x)[0, i + k - 2, mine]
    close(block(x)[0], block.out(wanted))


def test_weighted_attention_begins_as_the_scaled_dot_product_and_leaves_it():
    torch.manual_seed(0)
    weighted, plain = (WeightedAttention(12, 3, weighted=w) for w in (True, False))
    plain.load_state_dict({k: v for k, v in weighted.state_dict().items() if k != "between"})
    x = torch.randn(2, 5, 12)
    close(weighted(x), plain(x))
    assert weighted.between is not None
    weighted.between.data[0] *= -1
    assert not torch.allclose(weighted(x), plain(x), atol=1e-3)


@pytest.mark.parametrize("width", [128, 256])
def test_a_homogeneous_flexibert_is_bert(width: int):
    """Its layers are PyTorch's with GELU; with embeddings and pooler, BERT-Mini has 11.2M parameters, as published."""
    options: dict[str, Any] = {"layers": 4}
    for i in range(4):
        options |= {f"op{i}": "attention", f"similarity{i}": "dot", f"heads{i}": 4, f"width{i}": width}
        options |= {f"stack{i}": 1, f"hidden{i}.0": 4 * width}
    space = flexibert_space()
    torch.manual_seed(0)
    network = build_flexibert(space.canonical(options)).eval()
    theirs = nn.TransformerEncoderLayer(
        width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, layer_norm_eps=1e-12
    )
    mine: Any = network.layers[0]
    assert isinstance(mine, Stacked)
    take(theirs.self_attn, mine.operation)
    theirs.linear1.load_state_dict(mine.perceptrons[0][0].state_dict())
    theirs.linear2.load_state_dict(mine.perceptrons[0][2].state_dict())
    x = torch.randn(2, 6, width)
    close(mine(x), theirs(x))
    count = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network.classifier.parameters())
    assert width != 256 or round(count / 1e6, 1) == 11.2


def test_heads_of_one_attention_share_its_channels_however_many_there_are():
    assert len({sum(p.numel() for p in CrossAttention(8, 8, inner=8, heads=h).parameters()) for h in (1, 2, 4)}) == 1
