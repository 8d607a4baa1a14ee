"""Any words and any files end with an answer or a message. The same inputs each time; `inputs` has as many as one likes."""

from hypothesis import HealthCheck, given, settings

from tests.fuzz.command_line import check_command_line, command_lines
from tests.fuzz.loaders import check_loader, files

few = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@few
@given(command_lines)
def test_any_words_end_with_an_answer_or_a_message(words: list[str]) -> None:
    check_command_line(words)


@few
@given(files)
def test_any_file_is_read_or_refused_with_a_message(file: tuple[str, bytes]) -> None:
    check_loader(*file)
