"""What dry CUDA answers where values or handles decide: as the estimate assumes, as the library does, or with an error."""

import pytest

from tests.dry.test_dry_cuda import answer

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
