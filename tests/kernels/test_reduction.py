"""What decides about a reduction's buffers besides the tensor: the card."""

from profiler.kernels.reduction import THREADS_PER_MULTIPROCESSOR
from profiler.machine.cards import gpus


def test_a_multiprocessor_has_as_many_threads_as_the_cards_own_record_says() -> None:
    known = {card.capability: card.properties["maxThreadsPerSM"] for card in gpus().values() if card.properties}
    assert {capability: THREADS_PER_MULTIPROCESSOR.get(capability, 2048) for capability in known} == known
