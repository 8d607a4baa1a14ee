"""The closed form against published shapes and token counts, its error messages, and the laws that sizes must obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.data.latent import LATENT_DTYPES, estimate_video_latent_memory, to_layout
from profiler.errors import UserError

# num_frames, height, width, latent_channels, spatial_compression, temporal_compression
WAN = {
    "num_frames": 81,
    "height": 720,
    "width": 1280,
    "latent_channels": 16,
    "spatial_compression": 8,
    "temporal_compression": 4,
}
NOT_SIZES = [0, -1, True, False, 2.0, 1.5, float("nan"), "4", None, [4]]
NOT_DTYPES = ["float16", "FP16", "", None, 16, True, ["fp16"]]

size = st.integers(1, 3000)
estimate_arguments = st.fixed_dictionaries(
    {
        "num_frames": st.integers(1, 500),
        "height": size,
        "width": size,
        "latent_channels": st.integers(1, 256),
        "spatial_compression": st.integers(1, 64),
        "temporal_compression": st.integers(1, 16),
        "batch_size": st.integers(1, 8),
        "patch_size": st.integers(1, 8),
    }
)


class TestEstimate:
    @pytest.mark.parametrize(
        ("arguments", "patch_size", "latent_shape", "tokens"),
        [
            pytest.param((81, 720, 1280, 16, 8, 4), 2, (1, 16, 21, 90, 160), 75_600, id="wan2.1"),
            pytest.param((129, 720, 1280, 16, 8, 4), 2, (1, 16, 33, 90, 160), 118_800, id="hunyuanvideo"),
            pytest.param((49, 480, 720, 16, 8, 4), 2, (1, 16, 13, 60, 90), 17_550, id="cogvideox"),
            pytest.param((161, 512, 704, 128, 32, 8), 1, (1, 128, 21, 16, 22), 7_392, id="ltx-video"),
            pytest.param((256, 768, 768, 16, 8, 8), 2, (1, 16, 32, 96, 96), 73_728, id="movie-gen"),
        ],
    )
    def test_published_shapes(self, arguments, patch_size, latent_shape, tokens):
        estimate = estimate_video_latent_memory(*arguments, patch_size=patch_size)
        assert estimate["latent_shape"] == latent_shape
        assert estimate["tokens_per_video"] == tokens

    def test_every_key_and_no_other(self):
        assert estimate_video_latent_memory(**WAN, patch_size=2) == {
            "latent_shape": (1, 16, 21, 90, 160),
            "num_elements": 4_838_400,
            "memory_bytes": 9_676_800,
            "memory_mb": 9.2285,  # 9.228515625
            "tokens_per_video": 75_600,
        }

    def test_batch_is_in_memory_and_not_in_tokens(self):
        estimate = estimate_video_latent_memory(**WAN, batch_size=3, patch_size=2)
        assert estimate["latent_shape"] == (3, 16, 21, 90, 160)
        assert estimate["memory_bytes"] == 3 * 9_676_800
        assert estimate["tokens_per_video"] == 75_600

    def test_every_size_that_does_not_divide_is_rounded_up(self):
        estimate = estimate_video_latent_memory(5, 17, 25, 4, 8, 4, patch_size=2)
        assert estimate["latent_shape"] == (1, 4, 2, 3, 4)
        assert estimate["tokens_per_video"] == 2 * 2 * 2

    @pytest.mark.parametrize(("dtype", "element_size"), [("fp32", 4), ("fp16", 2), ("bf16", 2), ("fp8", 1)])
    def test_bytes_of_each_dtype(self, dtype, element_size):
        estimate = estimate_video_latent_memory(**WAN, dtype=dtype)
        assert estimate["memory_bytes"] == 4_838_400 * element_size

    @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
    @pytest.mark.parametrize("name", [*WAN, "batch_size", "patch_size"])
    def test_a_bad_size_is_named(self, name, bad):
        with pytest.raises(ValueError, match=f"^{name}: expected a positive integer, got ") as caught:
            estimate_video_latent_memory(**(WAN | {name: bad}))
        assert repr(bad) in str(caught.value)

    @pytest.mark.parametrize("bad", NOT_DTYPES, ids=repr)
    def test_a_bad_dtype_is_named_with_the_alternatives(self, bad):
        with pytest.raises(ValueError, match=r"^dtype: .*one of fp32, fp16, bf16, fp8$"):
            estimate_video_latent_memory(**WAN, dtype=bad)

    def test_errors_are_for_the_user(self):
        with pytest.raises(UserError):
            estimate_video_latent_memory(**(WAN | {"height": 0}))

    @pytest.mark.parametrize("name", ["num_frames", "height", "width", "latent_channels", "batch_size"])
    @given(arguments=estimate_arguments, more=st.integers(1, 100))
    def test_a_larger_video_is_never_smaller(self, name, arguments, more):
        before = estimate_video_latent_memory(**arguments)
        after = estimate_video_latent_memory(**(arguments | {name: arguments[name] + more}))
        for key in ("num_elements", "memory_bytes", "memory_mb", "tokens_per_video"):
            assert after[key] >= before[key]

    @pytest.mark.parametrize("name", ["spatial_compression", "temporal_compression", "patch_size"])
    @given(arguments=estimate_arguments, more=st.integers(1, 100))
    def test_more_compression_is_never_larger(self, name, arguments, more):
        before = estimate_video_latent_memory(**arguments)
        after = estimate_video_latent_memory(**(arguments | {name: arguments[name] + more}))
        assert after["memory_bytes"] <= before["memory_bytes"]
        assert after["tokens_per_video"] <= before["tokens_per_video"]

    @given(estimate_arguments)
    def test_bytes_scale_with_the_dtype(self, arguments):
        of = {name: estimate_video_latent_memory(**arguments, dtype=name)["memory_bytes"] for name in LATENT_DTYPES}
        assert of["fp32"] == 2 * of["fp16"] == 2 * of["bf16"] == 4 * of["fp8"]

    @given(estimate_arguments)
    def test_memory_is_linear_in_the_batch_and_tokens_do_not_know_it(self, arguments):
        one = estimate_video_latent_memory(**(arguments | {"batch_size": 1}))
        many = estimate_video_latent_memory(**arguments)
        assert many["memory_bytes"] == arguments["batch_size"] * one["memory_bytes"]
        assert many["tokens_per_video"] == one["tokens_per_video"]

    @given(estimate_arguments)
    def test_the_latent_covers_the_video_and_wastes_less_than_one_cell(self, arguments):
        shape = estimate_video_latent_memory(**arguments)["latent_shape"]
        for name, factor, latent in [
            ("num_frames", "temporal_compression", shape[2]),
            ("height", "spatial_compression", shape[3]),
            ("width", "spatial_compression", shape[4]),
        ]:
            assert 0 <= latent * arguments[factor] - arguments[name] < arguments[factor]

    @given(k=st.integers(0, 200), factor=st.integers(1, 16))
    def test_causal_frame_counts_agree_with_the_causal_formula(self, k, factor):
        arguments = WAN | {"num_frames": factor * k + 1, "temporal_compression": factor}
        assert estimate_video_latent_memory(**arguments)["latent_shape"][2] == k + 1


class TestLayouts:
    @pytest.mark.parametrize(
        ("layout", "shape"),
        [
            ("BCTHW", (2, 16, 24, 90, 160)),
            ("BTCHW", (2, 24, 16, 90, 160)),
            ("BTHWC", (2, 24, 90, 160, 16)),
            ("BCHW", (48, 16, 90, 160)),
        ],
    )
    def test_each_layout_of_one_latent(self, layout, shape):
        assert to_layout((2, 16, 24, 90, 160), "BCTHW", layout) == shape
        assert to_layout(shape, layout, layout) == shape

    def test_rows_do_not_go_back_to_videos(self):
        with pytest.raises(UserError, match=r"^layout: BCHW rows are batch x frames"):
            to_layout((24, 16, 90, 160), "BCHW", "BCTHW")
