"""The network: golden values, parameter names, and what its parts promise."""

import runpy
from pathlib import Path

import beartype
import jaxtyping
import pytest
import torch
from torch import nn

from macebench.models.motion_expert.config import PRESETS, UNKNOWN_GENRE
from macebench.models.motion_expert.network import (
    DanceLayer,
    MotionExpertNetwork,
    MusicLayer,
    attend_nearby,
    parameter_count,
)

parity = runpy.run_path(str(Path(__file__).parents[1] / "layers" / "parity.py"))
TINY = PRESETS["tiny"]
RELEASED = PRESETS["released"]


def filled(module, prefix=""):
    """The module with the fixtures' weights, in evaluation mode."""
    state = {
        name: torch.from_numpy(parity["fill"](prefix + name, value.shape))
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.eval()


def golden():
    return {name: torch.from_numpy(array) for name, array in parity["golden"]("mace_network").items()}


def make(config=TINY, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MotionExpertNetwork(config)
        with torch.no_grad():
            network.null_cond_embed.normal_()
    return network.eval()


def inputs(config=TINY, batch=2, frames=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, frames, config.n_features, generator=generator)
    cond = torch.randn(batch, frames, config.cond_dim, generator=generator)
    return x, cond, torch.arange(batch) % 3, torch.arange(batch) * 300 + 7, torch.linspace(0.2, 0.9, batch)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)


def sizes(config):
    with torch.device("meta"):
        return MotionExpertNetwork(config)


def test_released_names_shapes_and_count():
    stored = parity["golden_json"]("mace_state_dict")
    found = {name: list(value.shape) for name, value in sizes(RELEASED).state_dict().items()}
    assert found == stored["keys"]
    assert parameter_count(sizes(RELEASED)) == stored["n_parameters"] == 66_680_983


def test_sizes_of_the_other_presets():
    assert parameter_count(sizes(PRESETS["small"])) <= 6_000_000
    assert parameter_count(sizes(TINY)) < 300_000
    genre_input = 2 * (16 * 512 + 512 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 1024 + 1024)
    assert parameter_count(sizes(PRESETS["paper"])) == 66_680_983 - genre_input


@torch.no_grad()
def test_golden_dance_layer():
    stored = golden()
    layer = filled(DanceLayer(RELEASED), "dancelayerstack.0.")
    close(layer.bimamba(stored["bimamba_in"]), stored["bimamba_out"])
    close(layer.transformer(stored["bimamba_in"], stored["cross_mem_in"]), stored["cross_out"])
    out = layer(stored["bimamba_in"], stored["cross_mem_in"], stored["emb_time_plus_beta"][:1])
    close(out, stored["dance_layer0_out"])


@torch.no_grad()
def test_golden_music_layer():
    stored = golden()
    layer = filled(MusicLayer(RELEASED), "musiclayerstack.0.")
    close(layer(stored["cross_mem_in"], stored["in_genre"][:1]), stored["music_layer0_out"])


@torch.no_grad()
def test_golden_embeddings_and_projections():
    stored = golden()
    network = filled(MotionExpertNetwork(RELEASED.revised(n_dance_layers=1, n_music_layers=0)))
    close(network.embed(stored["in_times"], stored["in_beta"]), stored["emb_time_plus_beta"])
    close(network.input_projection(stored["in_x"][:1]), stored["bimamba_in"])
    close(network.cond_projection(stored["in_cond"][:1]), stored["cross_mem_in"])


@pytest.mark.slow
@torch.no_grad()
def test_golden_network():
    stored = golden()
    network = filled(MotionExpertNetwork(RELEASED))
    given = [stored[name] for name in ("in_x", "in_cond", "in_genre", "in_times", "in_beta")]
    everywhere = torch.ones(2, dtype=torch.bool)
    close(network(*given), stored["fwd_cond"])
    close(network(*given, everywhere), stored["fwd_uncond"])
    close(network(*given[:4], torch.ones(2), everywhere), stored["fwd_uncond_beta1"])
    close(network(*given[:4], torch.full((2,), 0.75)), stored["infer_pred_beta0.75"])


@pytest.mark.parametrize("mixer", ["bimamba", "mamba", "transformer"])
@pytest.mark.parametrize("preset", ["tiny", "paper"])
@torch.no_grad()
def test_shapes_hold_for_every_mixer(mixer, preset):
    config = TINY.revised(mixer=mixer, **({"genres": (), "unknown_genre": "mean"} if preset == "paper" else {}))
    network = make(config)
    check = jaxtyping.jaxtyped(typechecker=beartype.beartype)
    x, cond, genre, times, beta = inputs(config)
    memory = check(MotionExpertNetwork.encode_music)(network, cond, genre, torch.tensor([True, False]))
    assert memory.shape == (2, 24, config.latent_dim)
    assert check(MotionExpertNetwork.embed)(network, times, beta).shape == (2, config.latent_dim)
    out = check(MotionExpertNetwork.denoise)(network, x, memory, times, beta)
    assert out.shape == x.shape
    torch.testing.assert_close(
        check(MotionExpertNetwork.forward)(network, x, cond, genre, times, beta), network(*inputs(config))
    )
    with pytest.raises(jaxtyping.TypeCheckError):
        check(MotionExpertNetwork.forward)(network, x[:, :5], cond, genre, times, beta)


@pytest.mark.parametrize(("mixer", "seen"), [("bimamba", True), ("mamba", False), ("transformer", True)])
@torch.no_grad()
def test_only_the_causal_mixer_is_blind_to_the_future(mixer, seen):
    network = make(TINY.revised(mixer=mixer))
    x, cond, genre, times, beta = inputs()
    later = x.clone()
    later[:, 20:] += 1
    memory = network.encode_music(cond, genre)
    change = (network.denoise(x, memory, times, beta) - network.denoise(later, memory, times, beta)).abs()
    assert float(change[:, 20:].max()) > 1e-3
    assert (float(change[:, :20].max()) > 1e-6) == seen


@torch.no_grad()
def test_music_encoded_once_gives_the_same():
    network = make()
    x, cond, genre, times, beta = inputs()
    memory = network.encode_music(cond, genre)
    for step in (0, 500, 999):
        at = torch.full_like(times, step)
        assert torch.equal(network.denoise(x, memory, at, beta), network(x, cond, genre, at, beta))


@torch.no_grad()
def test_dropped_music_leaves_the_null_embedding_alone():
    network = make()
    x, cond, genre, times, beta = inputs()
    memory = network.encode_music(cond, genre, torch.tensor([True, False]))
    torch.testing.assert_close(memory[0], network.null_cond_embed[0].expand_as(memory[0]))
    assert torch.equal(memory[1], network.encode_music(cond, genre)[1])
    mixed = network(x, cond, genre, times, beta, torch.tensor([True, False]))
    other = network(x, cond + 1, genre, times, beta, torch.tensor([True, False]))
    assert torch.equal(mixed[0], other[0])
    assert not torch.allclose(mixed[1], other[1])


@torch.no_grad()
def test_every_input_matters():
    network = make()
    given = inputs()
    out = network(*given)
    for place, changed in enumerate((given[0] + 1, given[1] + 1, given[2] + 1, given[3] + 50, given[4] / 2)):
        other = [changed if place == i else value for i, value in enumerate(given)]
        assert float((network(*other) - out).abs().max()) > 1e-5, place


@torch.no_grad()
def test_an_unknown_genre_is_the_mean_or_the_last_entry():
    last = make().musiclayerstack[0]
    unknown = torch.tensor([UNKNOWN_GENRE])
    assert torch.equal(last.genre_vector(unknown), last.genre_vector(torch.tensor([len(TINY.genres) - 1])))
    mean = make(TINY.revised(unknown_genre="mean")).musiclayerstack[0]
    table = mean.genre_MLP[0].weight
    torch.testing.assert_close(mean.genre_vector(unknown), mean.genre_MLP[1:](table.mean(dim=0)[None]))
    known = torch.tensor([2, UNKNOWN_GENRE])
    torch.testing.assert_close(mean.genre_vector(known)[:1], mean.genre_MLP(torch.tensor([2])))


@torch.no_grad()
def test_a_model_without_genres_ignores_them():
    network = make(TINY.revised(genres=(), unknown_genre="mean"))
    x, cond, genre, times, beta = inputs()
    assert torch.equal(network(x, cond, genre, times, beta), network(x, cond, genre + 9, times, beta))
    with pytest.raises(ValueError, match="without genres"):
        network.musiclayerstack[0].genre_vector(genre)


@torch.no_grad()
def test_rows_of_a_batch_do_not_touch_each_other():
    network = make()
    given = inputs(batch=3)
    together = network(*given)
    for row in range(3):
        alone = network(*(value[row : row + 1] for value in given))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter():
    network = make(TINY).train()
    network(*inputs(batch=4)[:2], torch.arange(4), *inputs(batch=4)[3:]).square().sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


class Reader(nn.Module):
    """Softmax attention of x over memory, without weights."""

    def forward(self, x, memory):
        return nn.functional.scaled_dot_product_attention(x, memory, memory)


@pytest.mark.parametrize(("length", "frames"), [(50, 8), (48, 16), (17, 16), (33, 9)])
def test_frames_attend_to_their_neighbourhood(length, frames):
    generator = torch.Generator().manual_seed(length)
    x, memory = torch.randn(2, 2, length, 6, generator=generator, dtype=torch.float64)
    found = attend_nearby(Reader(), x, memory, frames)
    group = max(1, frames // 4)
    for frame in range(length):
        start = min(max(frame // group * group - (frames - group) // 2, 0), length - frames)
        assert start <= frame < start + frames
        wanted = Reader()(x[:, frame : frame + 1], memory[:, start : start + frames])
        torch.testing.assert_close(found[:, frame : frame + 1], wanted)


@pytest.mark.parametrize("frames", [None, 20, 21])
def test_a_window_as_long_as_the_music_is_no_window(frames):
    x, memory = torch.randn(2, 1, 20, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attend_nearby(Reader(), x, memory, frames), Reader()(x, memory))


@torch.no_grad()
def test_the_window_is_used_beyond_its_length():
    narrow = make(TINY.revised(attention_frames=24))
    wide = make(TINY)
    wide.load_state_dict(narrow.state_dict())
    assert torch.equal(narrow(*inputs(frames=24)), wide(*inputs(frames=24)))
    assert not torch.allclose(narrow(*inputs(frames=96)), wide(*inputs(frames=96)), atol=1e-5)
