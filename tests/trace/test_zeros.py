"""A clip that is not there takes no memory on its way to pictures."""

import numpy as np

from profiler.trace.stand_in_cuda import Zeros


def test_what_comes_of_zeros_is_not_written_either() -> None:
    clip = np.broadcast_to(np.float32(0), (10**4, 10**4, 10**4)).view(Zeros)  # 3.6 TiB
    pixels = (np.stack([clip / 2 + 0.5, clip]) * 255).round().astype("uint8")
    assert (pixels.shape, pixels.dtype, pixels.strides) == ((2, 10**4, 10**4, 10**4), np.dtype("uint8"), (0, 0, 0, 0))
    assert pixels[0, 1, 2, 3] == 128


def test_what_was_written_out_is_what_it_is() -> None:
    written = np.arange(6).reshape(2, 3).view(Zeros)
    assert (written * 2).astype("uint8").tolist() == [[0, 2, 4], [6, 8, 10]]
    assert np.add(written, written).tolist() == [[0, 2, 4], [6, 8, 10]]
    assert written.sum() == 15
