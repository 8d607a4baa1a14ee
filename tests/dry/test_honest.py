"""What dry CUDA answers where values or handles decide: as the estimate assumes, as the library does, or with an error."""

import json
import re

import pytest

from tests.dry.test_dry_cuda import ROOT, answer, dry

pytestmark = pytest.mark.dry

HISTORY = """
torch.cuda.memory._record_memory_history()
def taken():
    return [e["size"] for e in torch.cuda.memory._snapshot()["device_traces"][0] if e["action"] == "alloc"]
"""


@pytest.mark.parametrize(("gpu", "workspace"), [("h200", 32 << 20), ("rtx-4090", 8519680)])
def test_each_thread_has_a_cublas_handle_and_its_workspace(gpu: str, workspace: int) -> None:
    """Autograd's thread takes a second workspace at its first product (torch 2.13.0, CublasHandlePool.cpp)."""
    code = f"""{HISTORY}
x = torch.empty(256, 256, device="cuda", requires_grad=True)
(x @ x).sum().backward()
answer = taken().count({workspace})
"""
    assert answer(code, gpu=gpu) == 2


def test_a_large_copy_to_the_host_takes_no_ram() -> None:
    code = """
import psutil
held = lambda: psutil.Process().memory_info().rss
x = torch.empty(GIB, dtype=torch.uint8, device="cuda")
before = held()
plain, pinned = x.cpu(), torch.empty(GIB, dtype=torch.uint8, pin_memory=True).copy_(x)
answer = [held() - before, int(plain[::4096].sum()), int(pinned[::4096].sum())]
"""
    grown, *sums = answer(code)
    assert grown < 100 << 20
    assert sums == [0, 0]


def test_pinned_weights_that_nobody_wrote_take_no_ram_and_numbers_stay() -> None:
    """What group offload with a stream does to a model's weights before its first call."""
    code = """
import psutil
held = lambda: psutil.Process().memory_info().rss
torch.cuda.init()
weights, numbers = torch.empty(GIB, dtype=torch.uint8), torch.arange(1 << 20)
before = held()
pinned = weights.pin_memory()
answer = [held() - before, int(pinned[::4096].sum()), bool((numbers.pin_memory() == numbers).all())]
"""
    grown, *others = answer(code)
    assert grown < 100 << 20
    assert others == [0, True]


FOLLOWED = """
ids = torch.tensor([[5, 7, 1, 0], [9, 1, 0, 0]]).cuda()
mask = ids != 0
hidden = torch.rand(2, 4, 8, device="cuda")
steps = torch.linspace(1000, 1, 4, device="cuda").round()
lengths = mask.sum(dim=1)
steps[1] = 17
answer = [
    lengths.tolist(),
    list(hidden[mask].shape),
    [list(part.shape) for part in torch.split(hidden[mask], lengths.tolist())],
    (steps == 17).nonzero().tolist(),
    ids.argmax(-1).tolist(),
    torch.repeat_interleave(hidden, torch.tensor([3, 2], device="cuda"), dim=0).shape[0],
    list(hidden[0, : lengths[0]].shape),
    torch.unique(ids).tolist(),
    steps[2].item(),
]
"""


@pytest.mark.parametrize("gpu", ["h200", "rtx-4090"])  # 8.9 is no architecture that torch is compiled for
def test_values_that_follow_from_what_was_copied_are_the_cards(gpu: str) -> None:
    """What pipelines ask: lengths of a mask, tokens that a mask picks, the place of a time step."""
    picked = [[3, 8], [2, 8]]
    assert answer(FOLLOWED, gpu=gpu) == [[3, 2], [5, 8], picked, [[1]], [1, 0], 5, [3, 8], [0, 1, 5, 7, 9], 334.0]


ASSUMED = """
scores = torch.rand(6, 4, device="cuda")
info = torch.empty(3, dtype=torch.int32, device="cuda")
found = torch.zeros(1, device="cuda")
scores_in = [torch.rand(8, device="cuda")]
torch._amp_foreach_non_finite_check_and_unscale_(scores_in, found, torch.ones(1, device="cuda"))
torch._linalg_check_errors(info, "linalg.solve", is_matrix=False)
answer = [
    (scores > 0.5).nonzero().shape[0],
    (scores > 0.5).any().item(),
    torch.topk(scores, 2).indices.tolist(),
    torch.randn(2, device="cuda").tolist(),
    found.item(),
]
"""


def test_what_nobody_knows_is_what_the_estimate_assumes() -> None:
    even = [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1], [2, 3]]
    assert answer(ASSUMED) == [24, True, even, [0.5, 0.5], 0.0]


REFUSED = """
x = torch.rand(3, device="cuda")
asked = [
    lambda: x.sum().item(),
    lambda: (x * 10).long().tolist(),
    lambda: (x * 10).int().nonzero(),
    lambda: torch.unique(x),
    lambda: torch.zeros(3, device="cuda").add_(x).max().item(),
    lambda: torch.bincount((x * 10).long()),
    lambda: range((x > 0).sum()),
]
answer = []
for ask in asked:
    try:
        answer.append(str(ask()))
    except torch.AcceleratorError as error:
        answer.append(str(error).splitlines()[0])
"""


def test_a_number_that_only_a_kernel_would_have_written_is_an_error() -> None:
    assert answer(REFUSED) == ["CUDA error: not modelled by dry CUDA"] * 7


def test_the_op_that_reads_such_a_number_is_named() -> None:
    done = dry("python", "-c", "import torch\ntorch.rand(3, device='cuda').sum().item()")
    assert done.returncode == 1
    said = "dry CUDA: aten::_local_scalar_dense reads a number that only a kernel would have written: the copy fails\n"
    assert done.stderr.startswith(said)


def test_a_programs_own_kernel_may_have_written_anywhere() -> None:
    code = """
import ctypes
steps = torch.tensor([5, 7], device="cuda")
answer = [steps[1].item(), (steps * 2).max().item()]
ctypes.CDLL("libcudart.so.13").cudaLaunchKernel()
try:
    steps[1].item()
except torch.AcceleratorError:
    answer.append("unknown")
answer.append(torch.tensor([3], device="cuda").item())
"""
    assert answer(code) == [7, 14, "unknown", 3]


def test_floats_that_nobody_knows_are_no_numbers() -> None:
    code = "x = torch.rand(3, device='cuda')\nanswer = [str(x.tolist()), str((x * 0).cpu().tolist())]"
    assert answer(code) == ["[nan, nan, nan]"] * 2


TRIED = """
def tried(call):
    try:
        return list(call().shape)
    except RuntimeError as error:
        return str(error).split(":")[0]
"""


def test_batch_norm_in_training_takes_nothing_where_its_kernel_takes_nothing() -> None:
    """Of a plain layout cuDNN's function has no workspace at all; the persistent kernel of channels-last is not modelled."""
    code = f"""{TRIED}{HISTORY}
bn = torch.nn.BatchNorm2d(8).cuda()
x = torch.rand(2, 8, 64, 64, device="cuda", requires_grad=True)
before = len(taken())
y = bn(x)
sizes = taken()[before:]
y.sum().backward()
last = torch.rand(2, 8, 16, 16, device="cuda").half().to(memory_format=torch.channels_last)
answer = [list(y.shape), sizes, list(x.grad.shape), tried(lambda: bn(last))]
"""
    # The count of batches is added to in place; the result; mean and deviation of 8 channels.
    assert answer(code) == [[2, 8, 64, 64], [4 * 2 * 8 * 64 * 64, 32, 32], [2, 8, 64, 64], "cuDNN error"]


def test_a_schedulers_system_is_solved_and_a_large_one_is_an_error() -> None:
    """UniPC's. No document has the work area of cuSOLVER's LU: up to 8 rows it is an H100's, 768 bytes (libraries.c)."""
    code = f"""{HISTORY}
import re
a, b = torch.tensor([[2.0, 0.0], [0.0, 4.0]], device="cuda"), torch.ones(2, device="cuda")
unknown = torch.rand(3, 3, device="cuda")
answer = [torch.linalg.solve(a, b).tolist(), taken()]
answer.append(list(torch.linalg.solve(unknown[:-1, :-1], b).shape))
answer.append(list(torch.linalg.solve(a.expand(2, 2, 2), b.expand(2, 2)).shape))
try:
    torch.linalg.solve(torch.eye(9, device="cuda"), torch.ones(9, device="cuda"))
except RuntimeError as error:
    answer.append(re.search(r"calling `(\\w+)", str(error))[1])
"""
    solution, sizes, *others = answer(code, gpu="rtx-4090")
    assert solution == [0.5, 0.25]
    # Both inputs and the random matrix; then as tests/trace/test_rules.py has the estimate.
    assert sizes == [16, 8, 36, 8, 16, 8, 4, 768, 8, 8, 8, 8519680, 1, 1]
    assert others == [[2], [2, 2], "cusolverDnSgetrf_bufferSize"]


def test_managed_memory_is_the_hosts_and_counts_as_the_cards() -> None:
    code = """
import ctypes
runtime = ctypes.CDLL("libcudart.so.13")
free = torch.cuda.mem_get_info()[0]
address = ctypes.c_void_p()
made = runtime.cudaMallocManaged(ctypes.byref(address), ctypes.c_size_t(3 << 20), 1)
numbers = (ctypes.c_float * 4).from_address(address.value)
numbers[:] = [1, 2, 3, 4]
taken = free - torch.cuda.mem_get_info()[0]
freed = runtime.cudaFree(address)
answer = [made, taken, freed, free - torch.cuda.mem_get_info()[0]]
"""
    assert answer(code) == [0, 4 << 20, 0, 0]


# CUDA's own answer: without training it gives the statistics that it was given, where the CPU gives none.
OTHERWISE_ON_CUDA = {"native_batch_norm", "_native_batch_norm_legit"}
# A function of a library or a number that is not modelled; no kernel of torch for CUDA; what assumed masks lead to.
ERRORS = "not modelled|cuDNN error|cuFFT error|cusolver error|Could not run|to be on cpu|var has negative entry"


def test_every_operator_gives_an_answer_or_an_error() -> None:
    """Shapes as on the CPU, from inputs that are known and that are not; numbers as on the CPU, or none."""
    done = dry("python", ROOT / "tests" / "dry" / "aten_calls.py")
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    allowed = re.compile(f"(known|unknown): (ok|no answer on the CPU|error: .*({ERRORS}).*)")
    wrong = {
        name: [outcome for outcome in found if not allowed.fullmatch(outcome)]
        for name, found in outcomes.items()
        if name not in OTHERWISE_ON_CUDA
    }
    assert {name: found for name, found in wrong.items() if found} == {}
    answered = [name for name, found in outcomes.items() if "known: ok" in found]
    assert len(answered) > 550
