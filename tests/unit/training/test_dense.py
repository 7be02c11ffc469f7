"""Stacks of layers by oneDNN are the plain layers: values and gradients, alone and vmapped."""

import math

import pytest
import torch

from ccm_training import dense
from ccm_training.nets import Critics, Mlp

ROWS = 70
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def either_way(monkeypatch):
    """A function's result by plain layers and by oneDNN."""

    def both(function):
        monkeypatch.setattr(dense, "_AVAILABLE", True)
        monkeypatch.setattr(dense, "LEAST", math.inf)
        plain = function()
        monkeypatch.setattr(dense, "LEAST", 0)
        return plain, function()

    return both


def critics_with_all_sorts_of_norms():
    critics = Critics(5, 2, (24, 16))
    for norm in critics.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return critics


def test_an_mlp_of_any_leading_shape_and_its_gradients_are_those_of_plain_layers(either_way):
    mlp, value = Mlp((5, 24, 16, 3)), torch.randn(7, ROWS // 7, 5, requires_grad=True)

    def both():
        out = mlp(value)
        return out, *torch.autograd.grad(out.square().sum(), [value, *mlp.parameters()])

    plain, quick = either_way(both)
    assert plain[0].shape == quick[0].shape == (7, ROWS // 7, 3)
    torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)


def test_critics_and_their_gradients_are_those_of_plain_layers(either_way):
    critics = critics_with_all_sorts_of_norms()
    inputs, action = torch.randn(ROWS, 5, requires_grad=True), torch.randn(ROWS, 2, requires_grad=True)

    def both():
        values = critics(inputs, action)
        return values, *torch.autograd.grad(values.square().sum(), [inputs, action, *critics.parameters()])

    plain, quick = either_way(both)
    torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)


def test_frozen_critics_pass_on_the_same_gradients_and_compute_none_of_their_own(either_way):
    critics = critics_with_all_sorts_of_norms()
    inputs, action = torch.randn(ROWS, 5), torch.randn(ROWS, 2, requires_grad=True)
    plain, quick = either_way(lambda: torch.autograd.grad(critics(inputs, action, frozen=True).sum(), action))
    torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)
    own = torch.autograd.grad(critics(inputs, action, frozen=True).sum(), list(critics.parameters()), allow_unused=True)
    assert own == (None,) * len(own)


def test_without_gradients_the_values_are_the_same(either_way):
    critics, inputs, action = critics_with_all_sorts_of_norms(), torch.randn(ROWS, 5), torch.randn(ROWS, 2)
    with torch.no_grad():
        plain, quick = either_way(lambda: critics(inputs, action))
    torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)


def test_several_networks_at_once_are_each_on_its_own(monkeypatch):
    monkeypatch.setattr(dense, "_AVAILABLE", True)
    monkeypatch.setattr(dense, "LEAST", 0)
    critics = [critics_with_all_sorts_of_norms() for _ in range(3)]
    inputs, action = torch.randn(3, ROWS, 5), torch.randn(ROWS, 2)
    stacked = {
        name: torch.stack([dict(each.named_parameters())[name].detach() for each in critics]).requires_grad_()
        for name, _ in critics[0].named_parameters()
    }
    together = torch.vmap(
        lambda parameters, value: torch.func.functional_call(critics[0], parameters, (value, action)).square().sum()
    )(stacked, inputs)
    found = torch.autograd.grad(together.sum(), list(stacked.values()))
    for at, each in enumerate(critics):
        alone = each(inputs[at], action).square().sum()
        gradients = torch.autograd.grad(alone, list(each.parameters()))
        torch.testing.assert_close(alone, together[at])
        torch.testing.assert_close(gradients, tuple(part[at] for part in found), rtol=1e-4, atol=1e-4)


def test_an_exporter_sees_plain_operations_however_large_the_batch(monkeypatch):
    monkeypatch.setattr(dense, "_AVAILABLE", True)
    monkeypatch.setattr(dense, "LEAST", 0)
    mlp, rows = Mlp((5, 24, 3)), torch.export.Dim("rows")
    program = torch.export.export(mlp, (torch.randn(ROWS, 5),), dynamic_shapes=({0: rows},))
    assert "mkldnn" not in str(program.graph)


def test_small_batches_do_not_pay():
    assert not dense.pays(torch.zeros(1, 4), 64)
    assert not dense.pays(torch.zeros(2**20, 4, dtype=torch.float64), 64)
