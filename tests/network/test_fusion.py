"""Layers that became one compute what they did apart."""

import copy
import warnings

import pytest
import torch
from conftest import as_if_it_had_learned
from torch import nn

import network.fusion
from network.classifier import chain
from network.fusion import FusedConv2d, fold_batch_norm, fuse_activations
from network.layers import SameConv2d, basic_cnn, efficientnet_lite


def test_folding_removes_what_follows_a_convolution_and_changes_nothing():
    torch.manual_seed(0)
    body = as_if_it_had_learned(basic_cnn())
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        before = body(x)
        fold_batch_norm(body)
        torch.testing.assert_close(body(x), before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    alone = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    fold_batch_norm(alone)
    assert isinstance(alone[1], nn.BatchNorm2d)  # no convolution to fold it into


def fused(body: nn.Module) -> nn.Module:
    """Fuse the layers of a copy that does not learn."""
    body = copy.deepcopy(body).eval().requires_grad_(False)
    fold_batch_norm(body)
    before = len(chain(body))
    fuse_activations(body)
    assert len(chain(body)) == before  # a cut is where it was
    return body.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("build", [basic_cnn, efficientnet_lite])
@pytest.mark.parametrize("threads", [1, 2])
def test_activations_become_part_of_the_convolution_and_change_nothing(build, threads):
    torch.manual_seed(0)
    body = as_if_it_had_learned(build()).eval()
    together = fused(body)
    assert sum(isinstance(module, FusedConv2d) for module in together.modules()) >= 4
    left = [m for m in together.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    of_fused = {id(m.activation) for m in together.modules() if isinstance(m, FusedConv2d)}
    stride_2 = [m for m in together.modules() if isinstance(m, SameConv2d) and m.stride != (1, 1)]
    assert len([m for m in left if id(m) not in of_fused]) == len(stride_2)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for count, side in ((2, 32), (8, 48), (2, 32)):  # packed for one shape, then for another
            x = torch.randn(count, 3, side, side).to(memory_format=torch.channels_last)
            with torch.no_grad():
                expected, found = body(x), together(x)
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
                assert (together(x) == found).all()
            learning = together(x.requires_grad_())  # gradients take the way that they know
            torch.testing.assert_close(learning, expected, rtol=1e-4, atol=1e-4)
            learning.sum().backward()
            assert x.grad is not None
    finally:
        torch.set_num_threads(threads_before)


def test_weights_that_change_are_packed_again():
    together = fused(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    x = torch.randn(8, 3, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = together(x)
        together[0].weight.mul_(2)
        together[0].bias.mul_(2)
        torch.testing.assert_close(together(x), 2 * before)


def test_fused_layers_keep_the_names_of_their_weights():
    body = efficientnet_lite()
    fold_batch_norm(body)
    assert fused(body).state_dict().keys() == body.state_dict().keys()
    with torch.inference_mode():  # whose tensors count no versions
        inside = fused(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
        assert inside(torch.randn(8, 3, 8, 8)).min() == 0


def test_layers_that_do_other_things_stay_apart():
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, dilation=2),
        nn.Tanh(),
    )
    together = fused(body)
    kinds = [type(layer) for layer in together]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, FusedConv2d, nn.Tanh]
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(together(x), body(x), rtol=1e-4, atol=1e-5)


def test_other_kinds_of_convolutions_stay():
    class Doubled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    body = nn.Sequential(Doubled(3, 4, 1), nn.ReLU())
    assert [type(layer) for layer in fused(body)] == [Doubled, nn.ReLU]
    relu = nn.ReLU()  # one layer in two places
    body = nn.Sequential(nn.Conv2d(3, 3, 1), relu, nn.Conv2d(3, 3, 1), relu)
    assert [type(layer) for layer in fused(body)] == [nn.Conv2d, nn.ReLU] * 2


def test_fusing_twice_changes_nothing():
    once = fused(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    x = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        before = once(x)
        assert before.min() == 0
        assert (fused(once)(x) == before).all()


def test_a_fused_network_that_has_run_is_copied_saved_and_moved(tmp_path):
    together = fused(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    x = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        expected = together(x)
        assert (copy.deepcopy(together)(x) == expected).all()
        torch.save(together, tmp_path / "whole.pth")
        assert (torch.load(tmp_path / "whole.pth", weights_only=False)(x) == expected).all()
        torch.testing.assert_close(together(x[0]), expected[0])  # without a batch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tracing is deprecated
            torch.testing.assert_close(torch.jit.trace(together, x)(x), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert together(x).dtype == torch.bfloat16
        torch.testing.assert_close(together.double()(x.double()).float(), expected)
        assert together.to("meta")(x.double().to("meta")).shape == expected.shape


def test_weights_that_are_no_numbers_are_not_hidden():
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with torch.no_grad():
        body[0].weight[0] = torch.nan
        assert fused(body)(torch.randn(8, 3, 8, 8)).isnan().any()


def test_an_activation_that_runs_elsewhere_is_left_alone():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(x + self.conv(x))

    body = nn.Sequential(Residual())
    together = fused(body)
    assert not any(isinstance(module, FusedConv2d) for module in together.modules())


def test_without_onednn_nothing_is_fused(monkeypatch):
    monkeypatch.setattr(network.fusion, "OPERATORS", ("_no_such_operator",))
    together = fused(basic_cnn())
    assert not any(isinstance(module, FusedConv2d) for module in together.modules())
