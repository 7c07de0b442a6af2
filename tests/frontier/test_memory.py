"""Memory counts the tensors that live, each storage once, and keeps to its limit."""

import pytest
import torch

from attn_tutorial.frontier import memory
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@check
def what_lives_counts_and_what_is_gone_does_not(api):
    with api.Memory() as counted:
        first = torch.zeros(1000)
        second = first * 2
        assert counted.living == counted.peak == 8000
        del second
        assert (counted.living, counted.peak) == (4000, 8000)
        third = torch.zeros(500)
        assert (counted.living, counted.peak) == (6000, 8000)
        del first, third
        assert (counted.living, counted.peak) == (0, 8000)


@check
def a_view_is_no_second_tensor(api):
    with api.Memory() as counted:
        first = torch.zeros(10, 100)
        views = [first.view(-1), first.T, first[2:], first.expand(5, 10, 100), first.detach()]
        first += 1
        assert counted.living == counted.peak == 4000
        del first
        assert counted.living == 4000  # the views hold it
        del views
        assert counted.living == 0


@check
def what_was_there_before_does_not_count(api):
    before, other = torch.zeros(1000), torch.zeros(1000)
    with api.Memory() as counted:
        before.add_(1)
        torch.mul(other, 2, out=before)
        view = before[:10]
        assert counted.peak == 0
        made = view * 2
        assert counted.living == made.nbytes


@check
def several_results_count_each(api):
    with api.Memory() as counted:
        values, places = torch.rand(1000).sort()
        assert counted.living == 4000 + 8000 == values.nbytes + places.nbytes
        assert counted.peak == 4000 + 4000 + 8000


@check
def lists_of_tensors_are_opened(api):
    first = torch.arange(6.0)
    with api.Memory() as counted:
        made = torch._foreach_mul([first, first], 2)  # a list in, a list out
        assert counted.living == sum(part.nbytes for part in made) == 48
        joined = torch.cat(made)
        assert counted.living == 48 + joined.nbytes


@check
def sparse_tensors_are_left_out(api):
    dense = torch.eye(10)
    with api.Memory() as counted:
        sparse = dense.to_sparse()
        assert counted.peak == 0
        product = sparse @ dense
        assert counted.living == product.nbytes


@check
def nothing_has_to_be_computed(api):
    peaks = []
    for device in ("cpu", "meta"):
        start = torch.zeros(30, 40, device=device, requires_grad=True)
        with api.Memory() as counted:
            (start.softmax(-1) @ start.T).square().sum().backward()
        peaks.append(counted.peak)
    assert peaks[0] == peaks[1] > 0


@check
def what_is_kept_for_the_backward_pass_counts(api):
    start = torch.zeros(1000, requires_grad=True)
    with api.Memory() as counted:
        square = start.exp()  # keeps its result
        total = (square * square).sum()
        assert counted.living == 4000 + 4
        total.backward()
        assert counted.living >= start.grad.nbytes
        del square, total
        assert counted.living == start.grad.nbytes


@check
def the_largest_size_is_no_sum(api):
    with api.Memory() as counted:
        for _ in range(5):
            torch.zeros(1000)
    assert counted.peak == 4000


@check
def beyond_the_limit_is_an_error(api):
    with api.Memory(limit=8000) as counted:
        first = torch.zeros(1000)
        second = torch.zeros(1000)  # the limit itself is allowed
        del second
        with pytest.raises(
            MemoryError, match=r"^8,004 bytes would live at the same time; the limit is 8,000$"
        ):
            torch.zeros(1001)
        assert counted.living == first.nbytes
        torch.zeros(1000)


@check
def the_limit_holds_in_the_backward_pass(api):
    start = torch.zeros(1000, requires_grad=True)
    with api.Memory(limit=8000):
        total = start.exp().sum()
        with pytest.raises(MemoryError, match="the limit is 8,000"):
            total.backward()


@check
def one_may_stand_in_another(api):
    with api.Memory() as outer:
        first = torch.zeros(1000)
        with api.Memory() as inner:
            second = first + 1
        assert (outer.living, inner.living) == (8000, 4000)
        del second
        assert (outer.living, inner.living) == (4000, 0)


@check
def bad_limits_are_refused(api):
    for limit in (0, -1):
        with pytest.raises(ValueError, match=rf"^limit must be positive; got {limit}$"):
            api.Memory(limit)


BROKEN = {
    "views count": ("_place(tensor) not in before", "tensor is not None"),
    "nothing is forgotten": ("self.living -= self._known.pop(place, 0)", "pass"),
    "the end is the peak": ("max(self.peak, self.living)", "self.living"),
    "the sum is the peak": ("max(self.peak, self.living)", "self.peak + storage.nbytes()"),
    "numbers, not bytes": ("self.living += storage.nbytes()", "self.living += 1"),
    "the limit is no limit": ("self.living > self.limit:", "False:"),
    "the limit is too much": ("self.living > self.limit:", "self.living >= self.limit:"),
    "the limit of one tensor": ("self.living > self.limit:", "storage.nbytes() > self.limit:"),
    "the first result alone": ("for tensor in _tensors(result):",
                               "for tensor in list(_tensors(result))[:1]:"),
    "keyword arguments are forgotten": ("_tensors((args, kwargs))", "_tensors(args)"),
    "lists are not opened": ("list | tuple | dict", "tuple"),
    "sparse tensors have a storage": ("nested.layout == torch.strided", "True"),
    "by the place of the numbers": ("tensor.untyped_storage()._cdata", "tensor.data_ptr()"),
    "zero is a limit": ("limit <= 0", "limit < 0"),
}  # fmt: skip


class TestMemory(ZooTests):
    zoo = Zoo(CHECKS, rewritten(memory, BROKEN), BROKEN)
