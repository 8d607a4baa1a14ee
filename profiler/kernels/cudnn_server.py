"""Answers the planner's questions with cuDNN in this process: `python -m profiler.kernels.cudnn_server`.

The first line is a card's property record, each further line a question of `planner.question_of`; each answer is a line:
workspace bytes, or null where cuDNN builds no plan. Never imports torch, whose own cuDNN would be the one loaded.
"""

import json
import sys
from typing import Any

import cudnn

DTYPES = {
    "float16": cudnn.data_type.HALF,
    "bfloat16": cudnn.data_type.BFLOAT16,
    "float32": cudnn.data_type.FLOAT,
}


def main() -> None:
    """Serve until standard input ends."""
    device = cudnn.create_device_properties(sys.stdin.readline())
    for line in sys.stdin:
        try:
            answer = workspace(device, line)
        except cudnn.cudnnGraphNotSupportedError:
            answer = None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def workspace(device: Any, question: str) -> int:
    """Workspace bytes of the plan that ATen would take.

    ATen (native/cudnn/Conv_v8.cpp) asks the instant heuristics, drops engines that round their inputs down, and for fp32
    without TF32 those with tensor cores, and takes the first that builds. No `check_support`: that wants a device.
    """
    name, *numbers, _, memory_order, mode = question.split()
    x, w, padding, stride, dilation = ([int(n) for n in text.split(",")] for text in numbers)
    dtype, order = DTYPES[name], ORDERS[memory_order]
    geometry = {"padding": padding, "stride": stride, "dilation": dilation}
    y = [x[0], w[0], *output_size(x[2:], w[2:], **geometry)]
    graph = cudnn.pygraph(
        io_data_type=dtype,
        compute_data_type=cudnn.data_type.FLOAT,
        intermediate_data_type=cudnn.data_type.FLOAT,
        device_property=device,
    )
    image = graph.tensor(name="x", dim=x, stride=order(x), data_type=dtype)
    weight = graph.tensor(name="w", dim=w, stride=order(w), data_type=dtype)
    out = graph.conv_fprop(image=image, weight=weight, compute_data_type=cudnn.data_type.FLOAT, **geometry)
    out.set_output(True).set_data_type(dtype).set_dim(y).set_stride(order(y))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A])
    dropped = [cudnn.numerical_note.DOWN_CONVERT_INPUTS]
    if mode == "ieee":
        dropped.append(cudnn.numerical_note.TENSOR_CORE)
    graph.deselect_numeric_notes(dropped)
    graph.build_plans(cudnn.build_plan_policy.HEURISTICS_CHOICE)
    size: int = graph.get_workspace_size()
    return size


def output_size(
    size: list[int], kernel: list[int], padding: list[int], stride: list[int], dilation: list[int]
) -> list[int]:
    """Spatial output of a convolution."""
    geometry = zip(size, kernel, padding, stride, dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in geometry]


def contiguous(shape: list[int]) -> list[int]:
    """Strides of NCHW or NCDHW order."""
    strides = [1] * len(shape)
    for index in range(len(shape) - 2, -1, -1):
        strides[index] = strides[index + 1] * shape[index + 1]
    return strides


def channels_last(shape: list[int]) -> list[int]:
    """Strides of NHWC or NDHWC order."""
    strides, step = [0] * len(shape), shape[1]
    strides[1] = 1
    for index in range(len(shape) - 1, 1, -1):
        strides[index] = step
        step *= shape[index]
    strides[0] = step
    return strides


ORDERS = {"contiguous": contiguous, "channels_last": channels_last}

if __name__ == "__main__":
    main()
