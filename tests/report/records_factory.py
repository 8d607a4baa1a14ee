"""Sample records of every kind, without torch. Their terms add up, as the real ones do."""

from dataclasses import replace
from typing import Any

from profiler.data.explanation import Cause, Explanation
from profiler.data.memory import AliveTensor, Borrowed, Memory, PeakAt, Terms
from profiler.data.records import AppliedOption, Estimate, Failure, Measurement, Reading, Record
from profiler.data.stack import Stack
from profiler.data.units import MIB
from profiler.data.workload import MemoryOptions, Workload

GPU = Stack(
    device="cuda",
    gpu="NVIDIA H200",
    capability=(9, 0),
    multiprocessors=132,
    device_total_bytes=150_109_880_320,
    driver="575.57.08",
    cuda="12.8",
    cudnn=91002,
    torch="2.9.1+cu128",
    diffusers="0.36.0",
    python="3.12.4",
    settings={"PYTORCH_ALLOC_CONF": "expandable_segments:False", "cudnn.benchmark": "False"},
)
CPU = Stack(device="cpu", torch="2.13.0+cpu", diffusers="0.42.1", python="3.11.7")
DECODE = Workload(model="wan2.1-t2v-1.3b", stage="decode", frames=81, height=480, width=832)
CONTEXT = 530 * MIB


def alive(total: int) -> tuple[AliveTensor, ...]:
    """Ten tensors of falling size that stand in about nine tenths of `total` bytes."""
    made = [
        ("decoder.up_blocks.3.resnets.0.conv1", "aten.convolution.default"),
        ("decoder.up_blocks.3.resnets.0.norm1", "aten.mul.Tensor"),
        ("decoder.up_blocks.3.upsamplers.0", "aten.upsample_nearest2d.default"),
        ("", "aten.empty.memory_format"),
    ]
    return tuple(
        AliveTensor(
            bytes=total >> (n // 2 + 2),
            shape=(1, 96, 4 >> min(n, 2), 480, 832),
            dtype="bfloat16" if n % 3 else "float32",
            term="weights" if n == 9 else "workspace" if n == 4 else "activations",
            module=made[n % 4][0],
            op=made[n % 4][1],
        )
        for n in range(10)
    )


def terms(activations: int, workspace: int | None, cached: int | None, context: int | None) -> Terms:
    """Terms of a decode with the Wan VAE's weights."""
    return Terms(
        weights=254_000_128,
        inputs=3_357_696,
        outputs=194_088_960,
        activations=activations,
        workspace=workspace,
        cached=cached,
        context=context,
    )


def memory(parts: Terms) -> Memory:
    """The three totals of `parts`; workspace unknown counts as none, as the estimator does on a CPU."""
    tensors = sum(size or 0 for size in (parts.weights, parts.inputs, parts.outputs, parts.activations))
    allocated = tensors + (parts.workspace or 0)
    reserved = None if parts.cached is None else allocated + parts.cached
    device = None if reserved is None or parts.context is None else reserved + parts.context
    return Memory(allocated_bytes=allocated, reserved_bytes=reserved, device_bytes=device)


def estimate(
    workload: Workload = DECODE, stack: Stack = GPU, activations: int = 2_900 * MIB, **changes: Any
) -> Estimate:
    """An estimate; on a CPU stack without workspace, cached and context, each with its reason."""
    gpu = stack.device == "cuda"
    parts = terms(activations, 1_200 * MIB if gpu else None, 880 * MIB if gpu else None, None)
    notes = {
        "terms.context": "no context size known for this card",
        "peak.device_bytes": "no context size known for this card",
    }
    if not gpu:
        reason = "the CPU has no caching allocator"
        notes |= dict.fromkeys(("terms.cached", "peak.reserved_bytes", "terms.context", "peak.device_bytes"), reason)
        notes["terms.workspace"] = "no rules for CPU kernels: only tensors are estimated"
    answer = Estimate(
        workload=workload,
        stack=stack,
        baseline=Memory(allocated_bytes=257_357_824, reserved_bytes=268_435_456 if gpu else None),
        peak=memory(parts),
        terms=parts,
        peak_at=PeakAt(module="decoder.up_blocks.3.resnets.0.conv1", op="aten.convolution.default"),
        largest=alive(activations),
        output_shapes=((1, 3, 81, 480, 832),),
        seconds=0.74,
        fits=True if gpu else None,
        latent={"latent_shape": (1, 16, 21, 60, 104), "memory_bytes": 4_193_280},
        routes={"attention flash": 12, "convolution cudnn": 63},
        events=18_412,
        notes=notes,
    )
    return replace(answer, **changes)


def reading(phase: Any, allocated: int, parts: Terms, seconds: float | None = None) -> Reading:
    """A reading whose reserved and device bytes follow `parts`."""
    gpu = parts.cached is not None
    reserved = allocated + (parts.cached or 0) * (phase in ("cold", "warm")) if gpu else None
    device = reserved + CONTEXT if reserved is not None else None
    return Reading(
        phase=phase,
        peak=Memory(allocated_bytes=allocated, reserved_bytes=reserved, device_bytes=device),
        end=Memory(allocated_bytes=min(allocated, 451_446_784), reserved_bytes=reserved, device_bytes=device),
        requested_peak_bytes=max(allocated - 2_097_152, 0) if gpu else None,
        alloc_retries=0 if gpu else None,
        ooms=0 if gpu else None,
        seconds=seconds,
        process_bytes=device if gpu else allocated + 600 * MIB,
    )


def measurement(
    workload: Workload = DECODE, stack: Stack = GPU, activations: int = 2_900 * MIB, **changes: Any
) -> Measurement:
    """A measurement; with a CPU stack of kind `cpu`, without cached and context."""
    gpu = stack.device == "cuda"
    parts = terms(activations, 1_200 * MIB if gpu else 96_534_528, 912 * MIB if gpu else None, CONTEXT if gpu else None)
    peak = memory(parts)
    allocated = peak.allocated_bytes or 0
    warm = tuple(reading("warm", allocated - 8_519_680, parts, seconds) for seconds in (4.02, 4.01, 4.03))
    ops = [("decoder.up_blocks.3.resnets.0.conv1", "aten.convolution.default"), ("", "aten._to_copy.default")]
    notes = {"active_peak_bytes": "not read", "device_free_bytes": "not read"}
    if not gpu:
        reason = "the CPU has no caching allocator"
        names = (
            "peak.reserved_bytes",
            "peak.device_bytes",
            "end.reserved_bytes",
            "end.device_bytes",
            "terms.cached",
            "terms.context",
        )
        notes |= dict.fromkeys(names, reason)
    answer = Measurement(
        workload=workload,
        stack=stack,
        device_kind="cuda" if gpu else "cpu",
        baseline=Memory(allocated_bytes=257_357_824, reserved_bytes=268_435_456 if gpu else None),
        peak=peak,
        terms=parts,
        peak_at=PeakAt(module="decoder.up_blocks.3.resnets.0.conv1", op="aten.convolution.default"),
        largest=alive(activations),
        output_shapes=((1, 3, 81, 480, 832),),
        readings=(
            reading("start", 0, parts),
            reading("model", 254_000_128, parts),
            reading("inputs", 257_357_824, parts),
            reading("cold", allocated, parts, 9.41),
            *warm,
            reading("attribution", allocated, parts),
        ),
        warm=warm,
        attribution_peak_bytes=allocated,
        borrowed=tuple(Borrowed(bytes=96_534_528 >> n, module=ops[n % 2][0], op=ops[n % 2][1]) for n in range(10)),
        nvml={"temperature_c": 41, "power_w": 312.5, "throttle_reasons": None} if gpu else {},
        notes=notes,
    )
    return replace(answer, **changes)


def record(workload: Workload = DECODE, stack: Stack = GPU, off: int = 0, **changes: Any) -> Record:
    """An ok record with both sides; the estimate is `off` bytes above the measurement."""
    made = Record(
        key=workload.key,
        workload=workload,
        status="ok",
        started="2026-11-20T10:00:00+00:00",
        seconds=38.2,
        stack=stack,
        estimate=estimate(workload, stack, 2_900 * MIB + off),
        measurement=measurement(workload, stack),
    )
    return replace(made, **changes)


def exact() -> Record:
    return record()


def over() -> Record:
    """1.9 % above the measurement, with options: one applied, one ignored."""
    options = MemoryOptions(tiling=True, tile=(256, 256), slicing=True)
    workload = Workload(model="ltx-video-2b", stage="decode", frames=161, height=512, width=704, options=options)
    made = record(workload, off=90_000_000)
    applied = {
        "tiling": AppliedOption(applied=True, detail="use_tiling, tiles of 256 x 256"),
        "tile": AppliedOption(applied=True, detail="tile_sample_min_height 256"),
        "slicing": AppliedOption(applied=False, detail="the class ignores it for a batch of 1"),
    }
    assert made.estimate
    assert made.measurement
    return replace(
        made,
        estimate=replace(made.estimate, options=applied),
        measurement=replace(made.measurement, options=applied),
    )


def within() -> Record:
    return record(Workload(model="cogvideox-5b", stage="encode", frames=49, height=480, width=720), off=-7_000_000)


def on_cpu(off: int = 0) -> Record:
    """A CPU record: workspace measured only, reserved and device unknown."""
    workload = Workload(model="wan2.1-t2v-1.3b", stage="decode", frames=5, height=256, width=256, dtype="fp32")
    return record(workload, CPU, off)


def estimate_only() -> Record:
    """What an estimate for a card that is not at hand looks like."""
    workload = Workload(model="wan2.1-t2v-14b", stage="denoise", frames=81, height=720, width=1280)
    assumed = replace(GPU, driver=None, python=None)
    answer = estimate(workload, assumed, 31_000 * MIB, fits=True)
    return replace(record(workload), key=f"{workload.key}@h200", estimate=answer, measurement=None, stack=None)


def oom() -> Record:
    workload = Workload(model="hunyuan-video", stage="decode", frames=129, height=720, width=1280, dtype="fp16")
    message = (
        "CUDA out of memory. Tried to allocate 30.38 GiB. GPU 0 has a total capacity of 139.80 GiB of which 12.41 GiB "
        "is free. PID 4711 has 127.38 GiB memory in use. Of the allocated memory 121.02 GiB is allocated by PyTorch, "
        "and 5.41 GiB is reserved by PyTorch but unallocated."
    )
    failure = Failure(
        phase="cold", message=message, requested_bytes=32_624_345_088, exit_code=1, log="logs/hunyuan-video.log"
    )
    made = record(workload, status="oom", failure=failure, measurement=None)
    return replace(made, estimate=estimate(workload, activations=148_000 * MIB))


def crash() -> Record:
    workload = Workload(model="sdxl", stage="roundtrip", frames=1, height=1024, width=1024)
    failure = Failure(phase="warm", message="the worker ended by a signal", signal="SIGSEGV", exit_code=-11)
    return record(
        workload, status="crash", failure=failure, measurement=None, estimate=None, notes={"estimate": "not asked for"}
    )


def skipped() -> Record:
    workload = Workload(model="flux.1-dev", stage="patch-embed", frames=1, height=1024, width=1024)
    notes = {"skipped": "the time budget of 30 minutes was spent", "estimate": "the case was skipped"}
    made = record(workload, status="skipped", measurement=None, estimate=None, notes=notes)
    return replace(made, stack=None)


def elsewhere() -> Record:
    """Both numbers, but the estimate is for another cuDNN."""
    workload = Workload(model="qwen-image", stage="decode", frames=1, height=1024, width=1024, dtype="fp16")
    made = record(workload, off=400_000_000)
    return replace(made, estimate=replace(estimate(workload), stack=replace(GPU, cudnn=92000)))


def sample() -> list[Record]:
    """One of each."""
    return [exact(), over(), within(), on_cpu(), estimate_only(), oom(), crash(), skipped(), elsewhere()]


def explanation(*causes: Cause, unexplained: int = 0) -> Explanation:
    """Of these causes."""
    return Explanation(
        difference=sum(cause.bytes for cause in causes) + unexplained,
        causes=causes,
        unexplained=unexplained,
        paired=1234,
        only_measured=1,
        only_estimated=0,
    )


def explained() -> Record:
    """7 MB too little, 6 MB of which is a workspace."""
    cause = Cause(
        bytes=6_000_000, module="encoder.conv_in", op="aten.addmm.default", term="workspace", why="only measured"
    )
    return replace(within(), explanation=explanation(cause, unexplained=1_000_000))


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{7*7}} {% x %} a|b `c` @team *d*\n# e"


FORMULA = "=cmd|' /C calc'!A0"
CONTROL = f"{FORMULA}\x1b[2J\x1b]0;title\x07\x9b31m\u202e\x00\r`x`|<b>"


def hostile(HOSTILE: str = HOSTILE) -> Record:
    """Markup, or another text, wherever text of somebody else can stand."""
    workload = Workload(model=HOSTILE, stage="decode", frames=1, height=64, width=64)
    stack = replace(GPU, gpu=HOSTILE, settings={HOSTILE: HOSTILE})
    tensor = AliveTensor(bytes=4096, shape=(1,), dtype=HOSTILE, term=HOSTILE, module=HOSTILE, op=HOSTILE)
    sides = {
        "stack": stack,
        "largest": (tensor,),
        "notes": {HOSTILE: HOSTILE, "peak.device_bytes": HOSTILE},
        "peak_at": PeakAt(module=HOSTILE, op=HOSTILE),
        "options": {HOSTILE: AppliedOption(applied=False, detail=HOSTILE)},
    }
    return Record(
        key=workload.key,
        workload=workload,
        status="crash",
        started=HOSTILE,
        seconds=1.0,
        stack=stack,
        estimate=estimate(workload, routes={HOSTILE: 1}, **sides),
        measurement=measurement(workload, nvml={HOSTILE: HOSTILE}, **sides),
        failure=Failure(phase="cold", message=HOSTILE, signal=HOSTILE, log=HOSTILE),
        explanation=explanation(Cause(bytes=-512, module=HOSTILE, op=HOSTILE, term=HOSTILE, why=HOSTILE)),
        notes={HOSTILE: HOSTILE},
    )
