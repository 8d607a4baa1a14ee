"""The conditions of a run that no record holds: what was asked, when, and from where."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a report prints about its run. All but `title` may be left out; the page then says "not recorded".

    `created` is the report's date as text (ISO 8601); `version` latentmeter's own.
    """

    title: str
    command: str | None = None
    created: str | None = None
    version: str | None = None
    config_name: str | None = None
    directory: str | None = None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Label and text of each condition, in the order of reading."""
        facts = [
            ("Command", self.command),
            ("Config", self.config_name),
            ("Results", self.directory),
            ("Report written", self.created),
            ("latentmeter", self.version),
        ]
        return [(label, text or "not recorded") for label, text in facts]
