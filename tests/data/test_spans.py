"""Phases of a generation, read off the marks of its components."""

from profiler.data.spans import STEP, Mark, spans_of


def names(*marks: Mark) -> list[tuple[str, int, int]]:
    return [(span.name, span.start, span.stop) for span in spans_of(marks, 10, 100, 100) if span.call == 1]


def test_the_loop_is_what_runs_between_steps() -> None:
    assert names(
        Mark("text_encoder", 12, 20), Mark("text_encoder_2", 22, 28), Mark("vae", 30, 35),
        Mark("transformer", 40, 45), Mark(STEP, 46, 47), Mark("transformer", 50, 55), Mark(STEP, 56, 57),
        Mark("vae", 60, 80),
    ) == [
        ("text encode", 10, 30), ("image encode", 30, 40), ("first step", 40, 47), ("later steps", 47, 60),
        ("decode", 60, 80), ("post-process", 80, 100),
    ]  # fmt: skip


def test_one_step_is_a_loop_too() -> None:
    marks = (Mark("text_encoder", 12, 20), Mark("unet", 30, 40), Mark(STEP, 41, 42), Mark("vae", 50, 60))
    assert [name for name, *_ in names(*marks)] == [
        "text encode",
        "first step",
        "later steps",
        "decode",
        "post-process",
    ]


def test_without_a_scheduler_components_are_the_phases() -> None:
    assert names(Mark("prior", 12, 20), Mark("vae", 30, 40)) == [("prior", 10, 30), ("image encode", 30, 100)]


def test_the_load_is_a_phase_and_so_is_a_second_call() -> None:
    found = spans_of([Mark("vae", 12, 20), Mark("vae", 32, 40)], 10, 30, 50)
    assert [(span.name, span.call) for span in found] == [("load", 0), ("image encode", 1), ("image encode", 2)]
