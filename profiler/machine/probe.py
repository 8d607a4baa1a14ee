"""Questions about this machine, answered in a process of its own, so that whoever asks never holds a CUDA context.

`ask` starts `profiler.machine.probe QUESTION [ARGUMENT]` as a child, which prints its answer as JSON, or ends with the
reason on standard error.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

from profiler.data.stack import Stack
from profiler.errors import UserError
from profiler.files.load import from_dict
from profiler.machine.child import child_command
from profiler.machine.environment import environment_with, need_allocator

Question = Literal["stack", "context", "card"]
TIMEOUT = 120.0  # seconds


def ask(question: Question, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The answer to `question`. Raises UserError with the process's last words, or where it does not answer in time."""
    command = child_command("profiler.machine.probe", question, *arguments)
    # A session of its own: Ctrl-C is for whoever asks, who then ends the process.
    how: Any = {"capture_output": True, "text": True, "timeout": TIMEOUT, "start_new_session": True}
    try:
        done = subprocess.run(command, check=False, env=environment, **how)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"no answer within {TIMEOUT:g} s; is the driver hung?") from error
    if done.returncode:
        raise UserError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return dict(json.loads(done.stdout))


def probe_stack(device: Literal["auto", "cuda", "cpu"], alloc_conf: str | None = None) -> Stack:
    """The stack of this machine, asked in a process of its own, whose allocator `alloc_conf` sets up if given.

    Raises UserError where `cuda` is asked and there is none, and for a setting of the allocator that cannot be.
    """
    environment = environment_with(alloc_conf, device)
    try:
        stack: Stack = from_dict(Stack, ask("stack", device, environment=environment))
    except UserError as error:
        hint = "--device cpu measures on the CPU, `latentmeter doctor` says more"
        raise UserError(f"device {device}: {error}; {hint}") from error
    if alloc_conf is not None:
        need_allocator(stack.device)
    return stack


def main() -> None:
    """Answer the question of the command line. Torch is imported here alone: whoever asks needs none."""
    from profiler.machine.card_record import card_record, context_ladder
    from profiler.machine.live import stack_record

    answers: dict[str, Callable[..., dict[str, Any]]]
    answers = {"stack": stack_record, "context": context_ladder, "card": card_record}
    question, *arguments = sys.argv[1:]
    try:
        sys.stdout.write(json.dumps(answers[question](*arguments)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
