"""Answers the planner's questions with cuDNN in this process: `python -m profiler.kernels.cudnn_server`.

The first line is a card's property record, each further line a question of `cudnn_plans.question_of`; each answer is a line:
workspace bytes, or null where cuDNN builds no plan. With `--on-card` this machine's card plans, and the first line is read
past. Never imports torch, whose own cuDNN would be the one loaded.
"""

import ctypes
import json
import os
import sys
from math import prod
from typing import Any

from profiler.kernels.convolution import output_size
from profiler.kernels.cudnn_library import cublas_lt, library
from profiler.kernels.no_driver import load_stand_ins

# The front-end takes a cuDNN that is loaded already. It would look in one folder of this Python for a wheel, and a wheel may
# lie in another: that of the Python below a virtual environment, or one of PYTHONPATH.
if (found := library()) and (products := cublas_lt()):
    ctypes.CDLL(str(found.folder / "libcudnn.so.9"), mode=os.RTLD_GLOBAL)
    if "--on-card" not in sys.argv:
        load_stand_ins(found.folder, products)

import cudnn

DTYPES = {"float16": cudnn.data_type.HALF, "bfloat16": cudnn.data_type.BFLOAT16, "float32": cudnn.data_type.FLOAT}
# What later versions want to be told of a card too. The width of the bus to its memory, in bits, is asked for from 9.27 on;
# 9.28 planned 604 convolutions alike for an H200 with a bus of 0 and of 6144 bits, and 302 for an RTX 4090 with 0 and 384.
ALSO_ASKED_FOR = {"memoryBusWidth": 6144}


def main() -> None:
    """Serve until standard input ends."""
    record = ALSO_ASKED_FOR | (json.loads(sys.stdin.readline()) or {})
    if "--on-card" in sys.argv:
        planner = {"handle": cudnn.create_handle()}
    else:
        planner = {"device_property": cudnn.create_device_properties(json.dumps(record))}
    for line in sys.stdin:
        try:
            answer = workspace(planner, line)
        except cudnn.cudnnGraphNotSupportedError:
            answer = None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def workspace(planner: dict[str, Any], question: str) -> int:
    """Workspace bytes of the plan that ATen would take.

    ATen (native/cudnn/Conv_v8.cpp) asks the instant heuristics and then for fallbacks, drops engines that round their inputs
    down, and for fp32 without TF32 those with tensor cores, and takes the first that builds. A transposed convolution is the
    backward pass of a plain one to its input. No `check_support`: that wants a device.
    """
    name, *numbers, groups, memory_order, mode = question.split()
    x, w, padding, stride, dilation, *sides = ([int(n) for n in text.split(",")] for text in numbers)
    dtype = DTYPES[name]
    geometry = {"padding": padding, "stride": stride, "dilation": dilation}
    y = [x[0], w[1] * int(groups), *sides[0]] if sides else [x[0], w[0], *output_size(x[2:], w[2:], *geometry.values())]
    graph = cudnn.pygraph(
        io_data_type=dtype,
        compute_data_type=cudnn.data_type.FLOAT,
        intermediate_data_type=cudnn.data_type.FLOAT,
        **planner,
    )
    image = graph.tensor(name="x", dim=x, stride=strides(x, memory_order), data_type=dtype)
    weight = graph.tensor(name="w", dim=w, stride=strides(w, memory_order), data_type=dtype)
    if sides:
        out = graph.conv_dgrad(loss=image, filter=weight, compute_data_type=cudnn.data_type.FLOAT, **geometry)
    else:
        out = graph.conv_fprop(image=image, weight=weight, compute_data_type=cudnn.data_type.FLOAT, **geometry)
    out.set_output(True).set_data_type(dtype).set_dim(y).set_stride(strides(y, memory_order))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    dropped = [cudnn.numerical_note.DOWN_CONVERT_INPUTS]
    if mode == "ieee":
        dropped.append(cudnn.numerical_note.TENSOR_CORE)
    graph.deselect_numeric_notes(dropped)
    graph.build_plans(cudnn.build_plan_policy.HEURISTICS_CHOICE)
    size: int = graph.get_workspace_size()
    return size


def strides(shape: list[int], order: str) -> list[int]:
    """Strides of a tensor (N, C, *spatial) whose memory order is `contiguous` or `channels_last`."""
    axes = list(range(len(shape)))  # from the one that memory runs along slowest
    if order == "channels_last":
        axes.append(axes.pop(1))
    return [prod(shape[inner] for inner in axes[axes.index(axis) + 1 :]) for axis in range(len(shape))]


if __name__ == "__main__":
    main()
