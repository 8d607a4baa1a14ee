"""The closed form against published shapes and token counts, its error messages, and the laws that sizes must obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.data.latent import (
    LATENT_DTYPES,
    LAYOUTS,
    AttentionCost,
    compression_ratio,
    count_clip_tokens,
    count_positions,
    count_tokens,
    estimate_video_latent_memory,
    factorised_attention,
    full_attention,
    patch_grid,
    to_layout,
    windowed_attention,
)
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
NOT_LAYOUTS = ["bcthw", "NCHW", "", None, 5, ["BCHW"]]
NOT_TRIPLES = [4, None, "122", (1, 2), (1, 2, 2, 2), (1, 0, 2), (1, -2, 2), (1, True, 2), (1, 2.0, 2), ("1", 2, 2)]

size = st.integers(1, 3000)
small = st.integers(1, 24)
grids = st.tuples(small, small, small)
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


class TestTokens:
    def test_spacetime_patches(self):
        assert patch_grid(21, 90, 160, (1, 2, 2)) == (21, 45, 80)
        assert count_tokens(21, 90, 160, (1, 2, 2)) == 75_600
        assert count_tokens(32, 224, 224, patch=(2, 16, 16)) == 3_136  # ViViT, 16x2

    def test_edges_count_as_whole_patches(self):
        assert patch_grid(5, 7, 9, (2, 2, 4)) == (3, 4, 3)

    def test_a_patch_larger_than_the_grid_is_one_token(self):
        assert count_tokens(2, 3, 4, (8, 8, 8)) == 1

    def test_clip(self):
        assert count_clip_tokens(5, 30, 256) == 38_400
        assert count_clip_tokens(5, 30, 256, temporal_patch=2) == 19_200
        assert count_clip_tokens(5, 30, 256, temporal_patch=4) == 38 * 256  # 150 frames are 37.5 patches

    @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
    @pytest.mark.parametrize("name", ["frames", "height", "width"])
    def test_a_bad_grid_size_is_named(self, name, bad):
        with pytest.raises(ValueError, match=f"^{name}: "):
            count_tokens(**({"frames": 1, "height": 1, "width": 1, "patch": (1, 2, 2)} | {name: bad}))

    @pytest.mark.parametrize("bad", NOT_TRIPLES, ids=repr)
    def test_a_bad_patch_is_named(self, bad):
        with pytest.raises(ValueError, match=r"^patch: expected three positive integers"):
            count_tokens(21, 90, 160, bad)

    @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
    @pytest.mark.parametrize("name", ["seconds", "fps", "patches_per_frame", "temporal_patch"])
    def test_a_bad_clip_argument_is_named(self, name, bad):
        with pytest.raises(ValueError, match=f"^{name}: "):
            count_clip_tokens(**({"seconds": 5, "fps": 30, "patches_per_frame": 256} | {name: bad}))

    @given(grid=grids, patch=grids, axis=st.integers(0, 2))
    def test_tokens_grow_with_the_grid_and_shrink_with_the_patch(self, grid, patch, axis):
        def grown(sizes):
            return tuple(n + (i == axis) for i, n in enumerate(sizes))

        tokens = count_tokens(*grid, patch)
        assert count_tokens(*grown(grid), patch) >= tokens >= count_tokens(*grid, grown(patch))


class TestLayouts:
    def test_each_layout_of_one_latent(self):
        shapes = {
            "BCTHW": (2, 16, 24, 90, 160),
            "BTCHW": (2, 24, 16, 90, 160),
            "BTHWC": (2, 24, 90, 160, 16),
            "BCHW": (48, 16, 90, 160),
        }
        assert set(shapes) == set(LAYOUTS)
        for layout, shape in shapes.items():
            assert to_layout(shapes["BCTHW"], "BCTHW", layout) == shape
            assert count_positions(shape, layout) == 2 * 345_600

    def test_the_per_frame_view(self):
        assert to_layout((1, 16, 24, 90, 160), "BCTHW", "BCHW") == (24, 16, 90, 160)
        assert count_positions((1, 16, 24, 90, 160), "BCTHW") == 345_600

    def test_rows_go_back_to_videos_only_by_their_frames(self):
        rows = (24, 16, 90, 160)
        assert to_layout(rows, "BCHW", "BCTHW", frames=24) == (1, 16, 24, 90, 160)
        assert to_layout(rows, "BCHW", "BCTHW", frames=1) == (24, 16, 1, 90, 160)
        with pytest.raises(ValueError, match=r"^frames: BCHW rows are batch x frames"):
            to_layout(rows, "BCHW", "BCTHW")
        with pytest.raises(ValueError, match=r"^frames: 24 rows are not a whole number of videos of 5 frames"):
            to_layout(rows, "BCHW", "BCTHW", frames=5)

    @pytest.mark.parametrize(
        ("shape", "source", "target"),
        [
            ((1, 16, 24, 90, 160), "BCTHW", "BTCHW"),
            ((1, 16, 24, 90, 160), "BCTHW", "BCHW"),
            ((24, 16, 90, 160), "BCHW", "BCHW"),
        ],
    )
    def test_frames_that_would_be_ignored_are_refused(self, shape, source, target):
        with pytest.raises(ValueError, match=f"^frames: .* not for {source} to {target}"):
            to_layout(shape, source, target, frames=24)

    @pytest.mark.parametrize("bad", [bad for bad in NOT_SIZES if bad is not None], ids=repr)
    def test_bad_frames_are_named(self, bad):
        with pytest.raises(ValueError, match=r"^frames: expected a positive integer"):
            to_layout((24, 16, 90, 160), "BCHW", "BTHWC", frames=bad)

    @pytest.mark.parametrize("bad", NOT_LAYOUTS, ids=repr)
    def test_a_bad_layout_is_named_with_the_alternatives(self, bad):
        alternatives = "no layout .*; one of BCTHW, BTCHW, BTHWC, BCHW$"
        with pytest.raises(ValueError, match=f"^source: {alternatives}"):
            to_layout((1, 16, 24, 90, 160), bad, "BCTHW")
        with pytest.raises(ValueError, match=f"^target: {alternatives}"):
            to_layout((1, 16, 24, 90, 160), "BCTHW", bad)
        with pytest.raises(ValueError, match=f"^layout: {alternatives}"):
            count_positions((1, 16, 24, 90, 160), bad)

    @pytest.mark.parametrize("bad", [(16, 24, 90, 160), (1, 1, 16, 24, 90, 160), (), None, 5, "BCTHW"], ids=repr)
    def test_a_shape_of_another_rank_is_named(self, bad):
        with pytest.raises(ValueError, match=r"^shape: BCTHW has 5 sizes, got "):
            to_layout(bad, "BCTHW", "BTCHW")

    @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
    def test_a_bad_size_in_a_shape_is_named(self, bad):
        with pytest.raises(ValueError, match=r"^shape: expected positive integers"):
            count_positions((1, 16, bad, 90, 160), "BCTHW")

    @given(
        shape=st.tuples(small, small, small, small, small),
        source=st.sampled_from(["BCTHW", "BTCHW", "BTHWC"]),
        target=st.sampled_from(LAYOUTS),
    )
    def test_there_and_back(self, shape, source, target):
        frames = shape[source.index("T")] if target == "BCHW" else None
        there = to_layout(shape, source, target)
        assert to_layout(there, target, source, frames=frames) == shape
        assert count_positions(there, target) == count_positions(shape, source)


class TestCompression:
    def test_published_ratios(self):
        # Where all sizes divide: 3 * 8 * 8 * 4 / 16, and LTX-Video's own 1:192 (arXiv 2501.00103).
        assert compression_ratio(80, 720, 1280, 16, 8, 4).by_elements == 48
        assert compression_ratio(160, 512, 704, 128, 32, 8).by_elements == 192

    def test_a_rounded_latent_compresses_less(self):
        assert compression_ratio(**WAN).by_elements == pytest.approx(48 * 81 / 84)

    def test_bytes_follow_both_dtypes(self):
        def ratio(pixel_dtype, latent_dtype):
            return compression_ratio(
                80, 720, 1280, 16, 8, 4, pixel_dtype=pixel_dtype, latent_dtype=latent_dtype
            ).by_bytes

        assert compression_ratio(80, 720, 1280, 16, 8, 4).by_bytes == ratio("fp32", "fp16") == 96
        assert ratio("bf16", "bf16") == 48
        assert ratio("fp8", "bf16") == 24

    def test_pixel_channels(self):
        assert compression_ratio(80, 720, 1280, 16, 8, 4, pixel_channels=4).by_elements == 64

    @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
    @pytest.mark.parametrize("name", [*WAN, "pixel_channels"])
    def test_a_bad_size_is_named(self, name, bad):
        with pytest.raises(ValueError, match=f"^{name}: "):
            compression_ratio(**(WAN | {name: bad}))

    @pytest.mark.parametrize("bad", NOT_DTYPES, ids=repr)
    @pytest.mark.parametrize("name", ["pixel_dtype", "latent_dtype"])
    def test_a_bad_dtype_is_named(self, name, bad):
        with pytest.raises(ValueError, match=f"^{name}: .*one of fp32"):
            compression_ratio(**WAN, **{name: bad})


def windowed_2x2x2(grid, *arguments, **options):
    return windowed_attention(grid, (2, 2, 2), *arguments, **options)


class TestAttention:
    def test_full(self):
        # 24 tokens: 576 pairs, 2 heads, 3 videos; two products of 2 * 8 FLOPs a pair.
        assert full_attention((2, 3, 4), heads=2, head_dim=8, batch=3) == AttentionCost(3456, 6912, 3456 * 32)

    def test_full_at_the_size_of_wan(self):
        cost = full_attention((21, 45, 80), heads=40, head_dim=128, dtype="bf16")
        assert cost.score_bytes == 75_600**2 * 40 * 2  # 426 GiB: why nobody materialises it

    def test_factorised(self):
        # Two frames of 12 x 12 pairs, then 12 positions of 2 x 2.
        assert factorised_attention((2, 3, 4), heads=1, head_dim=8, dtype="fp32") == AttentionCost(336, 1344, 336 * 32)

    def test_windowed(self):
        # (2, 3, 5) by (2, 2, 2) are 1 * 2 * 3 windows, the edge ones as full as the others: 6 * 8 * 8 pairs.
        assert windowed_2x2x2((2, 3, 5), heads=1, head_dim=8, dtype="fp8") == AttentionCost(384, 384, 384 * 32)

    def test_a_window_larger_than_the_grid_is_padding(self):
        assert windowed_attention((1, 1, 1), (2, 2, 2), heads=1, head_dim=1).score_elements == 64

    @given(grid=grids, heads=small, head_dim=small, batch=small)
    def test_a_window_as_large_as_the_grid_is_full_attention(self, grid, heads, head_dim, batch):
        assert windowed_attention(grid, grid, heads, head_dim, batch) == full_attention(grid, heads, head_dim, batch)

    @given(frames=st.integers(2, 50), height=st.integers(2, 50), width=small)
    def test_factorised_is_never_more_than_full(self, frames, height, width):
        factorised, full = (f((frames, height, width), 1, 1) for f in (factorised_attention, full_attention))
        assert factorised.score_elements <= full.score_elements

    @pytest.mark.parametrize("grid", [(1, 4, 4), (4, 1, 1)])
    def test_factorised_has_no_use_along_one_axis(self, grid):
        overhead = factorised_attention(grid, 1, 1).score_elements - full_attention(grid, 1, 1).score_elements
        assert overhead == grid[0] * grid[1] * grid[2]  # the other pass: every token attends to itself alone

    @pytest.mark.parametrize("attention", [full_attention, factorised_attention, windowed_2x2x2])
    @given(grid=grids, heads=small, head_dim=small, batch=small, axis=st.integers(0, 2))
    def test_linear_in_heads_and_batch_and_monotone_in_the_grid(self, attention, grid, heads, head_dim, batch, axis):
        one, many = attention(grid, 1, head_dim), attention(grid, heads, head_dim, batch)
        assert many.score_elements == heads * batch * one.score_elements
        assert many.flops == heads * batch * one.flops == 4 * many.score_elements * head_dim
        larger = tuple(n + (i == axis) for i, n in enumerate(grid))
        assert attention(larger, 1, head_dim).flops >= one.flops

    @pytest.mark.parametrize("attention", [full_attention, factorised_attention, windowed_2x2x2])
    class TestErrors:
        @pytest.mark.parametrize("bad", NOT_SIZES, ids=repr)
        @pytest.mark.parametrize("name", ["heads", "head_dim", "batch"])
        def test_a_bad_size_is_named(self, attention, name, bad):
            with pytest.raises(ValueError, match=f"^{name}: "):
                attention((2, 3, 4), **({"heads": 1, "head_dim": 1} | {name: bad}))

        @pytest.mark.parametrize("bad", NOT_TRIPLES, ids=repr)
        def test_a_bad_grid_is_named(self, attention, bad):
            with pytest.raises(ValueError, match=r"^grid: expected three positive integers"):
                attention(bad, 1, 1)

        @pytest.mark.parametrize("bad", NOT_DTYPES, ids=repr)
        def test_a_bad_dtype_is_named(self, attention, bad):
            with pytest.raises(ValueError, match=r"^dtype: .*one of fp32"):
                attention((2, 3, 4), 1, 1, dtype=bad)

    @pytest.mark.parametrize("bad", NOT_TRIPLES, ids=repr)
    def test_a_bad_window_is_named(self, bad):
        with pytest.raises(ValueError, match=r"^window: expected three positive integers"):
            windowed_attention((2, 3, 4), bad, 1, 1)
