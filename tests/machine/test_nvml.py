"""The real pynvml on a stub libnvidia-ml.so.1, in processes of their own: values, and reasons where there are none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.machine.nvml import GAUGES, MEMORY

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
TOTAL, RESERVED, OURS, THEIRS = 81920 * MIB, 600 * MIB, 700 * MIB, 300 * MIB
USED = OURS + THEIRS + 24 * MIB
OTHER_PID = 4194304
UUID = "22222222-2222-2222-2222-222222222222"

Environment = dict[str, str]
Stub = Callable[[str], Environment]

SNAPSHOT = f"answer = nvml.snapshot({UUID!r})"
SAMPLER = f"""
sampler = sampling.Sampler({UUID!r}, interval_seconds=0.001)
sampler.start()
deadline = time.monotonic() + 10
while sampler.summary()["samples"] < 8 and time.monotonic() < deadline:
    time.sleep(0.001)
sampler.stop()
answer = sampler.summary()
"""


def ask(environment: Environment, code: str) -> Any:
    """What `code` leaves in `answer`, in a fresh process; what it writes to stderr (a thread's traceback) fails."""
    imports = (
        "import json, os, sys, time\nfrom profiler.machine import nvml\nimport profiler.machine.sampler as sampling"
    )
    script = f"{imports}\n{code}\nprint(json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def no_library(tmp_path: Path) -> Environment:
    """A machine without NVML. An empty file, found before any real driver's, cannot be loaded."""
    (tmp_path / "libnvidia-ml.so.1").touch()
    return os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}


def assert_absent(data: dict[str, Any], names: tuple[str, ...], words: str) -> None:
    for name in names:
        assert data[name] is None, name
        assert words in data["reasons"][name]


def test_snapshot_gives_every_value_and_no_reason(nvml_stub: Stub) -> None:
    answer = ask(nvml_stub("ok"), SNAPSHOT)
    assert answer == {
        "uuid": f"GPU-{UUID}",
        "name": "Stub Card",
        "driver": "600.00.stub",
        "total_bytes": TOTAL,
        "reserved_bytes": RESERVED,
        "free_bytes": TOTAL - USED - RESERVED,
        "used_bytes": USED,
        "process_bytes": OURS,
        "others_bytes": THEIRS,
        "others": [{"pid": OTHER_PID, "bytes": THEIRS}],
        "reasons": {},
    }


def test_a_gpu_is_found_by_uuid_never_by_index(nvml_stub: Stub) -> None:
    names = ask(
        nvml_stub("ok"),
        f"""
asked = {{
    "bare": {UUID!r}, "prefixed": "GPU-" + {UUID!r},
    "other": "11111111-1111-1111-1111-111111111111",
    "bare slice": "33333333-3333-3333-3333-333333333333",
    "slice": "MIG-33333333-3333-3333-3333-333333333333",
    "strange": "99999999-9999-9999-9999-999999999999",
    "nothing": None,
}}
answer = {{name: nvml.snapshot(uuid) for name, uuid in asked.items()}}
""",
    )
    assert {name: data["name"] for name, data in names.items()} == {
        "bare": "Stub Card",
        "prefixed": "Stub Card",
        "other": "Stub Other",
        "bare slice": "Stub Card MIG 1g.10gb",
        "slice": "Stub Card MIG 1g.10gb",
        "strange": None,
        "nothing": None,
    }
    everything = ("uuid", "name", *GAUGES, "others")
    assert_absent(names["strange"], everything, "no GPU with UUID 99999999-9999-9999-9999-999999999999")
    assert_absent(names["nothing"], everything, "UUID is not known")
    assert names["nothing"]["driver"] == "600.00.stub"


@pytest.mark.parametrize(
    ("uuid", "spelt"),
    [("33333333-3333-3333-3333-333333333333", "MIG-33333333-3333-3333-3333-333333333333"), (UUID, f"GPU-{UUID}")],
)
def test_a_slice_that_torch_runs_on_is_spelt_as_nvml_spells_it(nvml_stub: Stub, uuid: str, spelt: str) -> None:
    code = f"""
from types import SimpleNamespace
import torch
from profiler.machine.live import device_uuid
torch.cuda.get_device_properties = lambda: SimpleNamespace(uuid={uuid!r})
answer = [device_uuid(), nvml.snapshot(device_uuid())["uuid"]]
"""
    assert ask(nvml_stub("ok"), code) == [spelt, spelt]


def test_devices_and_used_bytes(nvml_stub: Stub, no_library: Environment) -> None:
    code = f"given = nvml.devices()\nanswer = [given.value, given.reason, vars(nvml.used_bytes({UUID!r}))]"
    listed, reason, used = ask(nvml_stub("ok"), code)
    assert listed == ["GPU-11111111-1111-1111-1111-111111111111", f"GPU-{UUID}"]
    assert reason is None
    assert used == {"value": USED, "reason": None, "code": None}
    listed, reason, used = ask(no_library, code)
    assert listed is None
    assert used["value"] is None
    assert reason == used["reason"]
    assert "libnvidia-ml.so.1 cannot be loaded" in reason


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("v1_only", {"reserved_bytes": None, "used_bytes": USED + RESERVED}),
        ("includes_reserved", {"reserved_bytes": RESERVED, "used_bytes": USED + RESERVED}),
        ("unreserved", {"reserved_bytes": 0, "used_bytes": USED}),
        ("old_driver", {"reserved_bytes": RESERVED, "process_bytes": OURS}),
        ("new_driver", {"reserved_bytes": RESERVED, "process_bytes": OURS}),
        ("container,v1_only", {"reserved_bytes": None, "process_bytes": None, "others_bytes": None}),
    ],
)
def test_drivers_that_answer_otherwise(nvml_stub: Stub, scenario: str, expected: dict[str, Any]) -> None:
    answer = ask(nvml_stub(scenario), SNAPSHOT)
    assert {name: answer[name] for name in expected} == expected
    absent = {name for name, value in answer.items() if value is None}
    assert absent == answer["reasons"].keys()


@pytest.mark.parametrize(
    ("scenario", "absent", "words"),
    [
        ("not_supported", (*GAUGES, "others"), "not supported"),
        ("not_supported", MEMORY, "unified memory"),
        # The reason of the newer function counts, where the older one is gone.
        ("new_driver,not_supported", ("process_bytes",), "not supported"),
        # v1 counts other bytes as used: it must not stand in for a v2 that fails for once.
        ("v2_fails", MEMORY, "Unknown Error (nvmlDeviceGetMemoryInfo)"),
        ("no_permission", (*GAUGES, "others"), "no permission"),
        ("gpu_lost_after_0", (*GAUGES, "others"), "the GPU is lost"),
        ("no_driver", (*GAUGES, "name", "driver"), "driver is not loaded"),
        ("unified", MEMORY, "unified memory"),
        ("sentinel", ("free_bytes", "used_bytes"), "'not available'"),
        ("sentinel", ("process_bytes",), "with no size"),
        ("sentinel", ("others_bytes",), "no credible bytes for some of the other processes"),
        ("sentinel_total", MEMORY, "'not available' for the total"),
        ("above_total", ("used_bytes",), f"{TOTAL + 1} bytes, more than the device's {TOTAL}"),
        ("container", ("process_bytes",), "not among the 2 processes"),
        ("container", ("others_bytes",), "may be one of the others"),
        ("nobody", ("process_bytes",), "not among the 0 processes"),
        ("nobody", ("others_bytes",), "may be one of the others"),
        ("zero_process", ("process_bytes",), "with 0 bytes"),
        ("huge_process", ("process_bytes",), f"while {USED} bytes are used"),
    ],
)
def test_what_is_unknown_is_none_with_its_reason(
    nvml_stub: Stub, scenario: str, absent: tuple[str, ...], words: str
) -> None:
    assert_absent(ask(nvml_stub(scenario), SNAPSHOT), absent, words)


def test_no_number_hides_behind_an_error(nvml_stub: Stub) -> None:
    """The stub writes its numbers before it refuses: none of them, and no zero, may come through."""
    answer = ask(nvml_stub("no_permission"), SNAPSHOT)
    assert {name for name, value in answer.items() if value is not None} == {"uuid", "name", "driver", "reasons"}


def test_one_reason_for_everything_without_the_library(no_library: Environment) -> None:
    answer = ask(no_library, SNAPSHOT)
    reasons = answer.pop("reasons")
    assert set(answer.values()) == {None}
    assert reasons.keys() == answer.keys()
    assert set(reasons.values()) == {"the NVML library libnvidia-ml.so.1 cannot be loaded: no NVIDIA driver here"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nvmlMemory_v2 = 1", "not the one of nvidia-ml-py: pip uninstall pynvml"),
        ("raise ImportError", "not installed: pip install nvidia-ml-py"),
    ],
)
def test_module_of_another_distribution_or_none(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "pynvml").mkdir()
    (tmp_path / "pynvml" / "__init__.py").write_text(content)
    code = f"sys.path.insert(0, {str(tmp_path)!r})\n{SNAPSHOT}"
    assert_absent(ask(dict(os.environ), code), GAUGES, words)


def test_the_module_is_imported_at_the_first_question_only(nvml_stub: Stub) -> None:
    code = "answer = ['pynvml' in sys.modules]\nnvml.devices()\nanswer += ['pynvml' in sys.modules]"
    assert ask(nvml_stub("ok"), code) == [False, True]


def test_sampler_follows_growth_and_drift(nvml_stub: Stub) -> None:
    answer = ask(nvml_stub("growing"), SAMPLER)
    steps = answer["samples"] - 1
    assert steps >= 8
    assert answer["reasons"] == {}
    used = answer["used_bytes"]
    assert used == {"min": USED + MIB, "max": USED + MIB + steps * MIB, "last": used["max"]}
    assert answer["free_bytes"] == {
        "min": TOTAL - RESERVED - used["max"],
        "max": TOTAL - RESERVED - used["min"],
        "last": TOTAL - RESERVED - used["last"],
    }
    assert answer["total_bytes"] == {"min": TOTAL, "max": TOTAL, "last": TOTAL}
    assert answer["process_bytes"]["max"] - answer["process_bytes"]["min"] == steps * MIB // 2
    assert answer["others_bytes"]["max"] - answer["others_bytes"]["min"] == steps * MIB // 2
    assert answer["interval_seconds"] == 0.001
    assert answer["largest_gap_seconds"] >= 0.001
    assert "lower bound" in answer["note"]


def test_sampler_outlives_a_gpu_that_is_lost(nvml_stub: Stub) -> None:
    answer = ask(nvml_stub("growing,gpu_lost_after_3"), SAMPLER)
    samples = answer["samples"]
    assert samples >= 8
    assert answer["used_bytes"] == {"min": USED + MIB, "max": USED + 3 * MIB, "last": USED + 3 * MIB}
    assert answer["reasons"]["used_bytes"] == (
        f"absent in {samples - 3} of {samples} samples: "
        "the GPU is lost: it no longer answers on the bus (nvmlDeviceGetMemoryInfo)"
    )
    assert all(answer[name]["last"] for name in GAUGES)
    assert set(GAUGES) <= answer["reasons"].keys()


def test_sampler_leaves_a_driver_that_hangs(nvml_stub: Stub) -> None:
    code = f"""
sampling.PATIENCE_SECONDS = 0.2
sampler = sampling.Sampler({UUID!r}, interval_seconds=0.001)
sampler.start()
time.sleep(0.1)
sampler.stop()
answer = sampler.summary()
"""
    answer = ask(nvml_stub("hang_after_2"), code)
    assert (answer["samples"], answer["used_bytes"]["last"]) == (2, USED)
    assert answer["reasons"] == {"samples": "the driver stopped answering: its last call took over 0.2 s"}


def test_sampler_cannot_tell_others_apart_in_a_container(nvml_stub: Stub) -> None:
    answer = ask(nvml_stub("container"), SAMPLER)
    assert_absent(answer, ("process_bytes",), "pids of the host")
    assert_absent(answer, ("others_bytes",), "may be one of the others")
    assert answer["used_bytes"]["max"] == USED


def test_sampler_without_any_library(no_library: Environment) -> None:
    answer = ask(no_library, SAMPLER.replace("< 8", "< 1"))
    assert_absent(answer, GAUGES, "cannot be loaded")
    assert (answer["samples"], answer["largest_gap_seconds"]) == (1, None)


def test_sampler_starts_and_stops_in_any_order(nvml_stub: Stub) -> None:
    code = f"""
never = sampling.Sampler({UUID!r})
never.stop()
long = sampling.Sampler({UUID!r}, interval_seconds=3600)
long.start()
long.stop()
long.stop()
answer = [never.summary(), long.summary()]
"""
    never, long = ask(nvml_stub("ok"), code)
    assert never["samples"] == 0
    assert_absent(never, GAUGES, "no sample was taken")
    assert (long["samples"], long["interval_seconds"]) == (2, 3600)
