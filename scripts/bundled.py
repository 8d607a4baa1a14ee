"""Brings what this Python lacks of latentmeter's requirements from the wheels of a lab bundle (scripts/lab_bundle).

Prints the folders for PYTHONPATH, divided by colons; nothing where nothing is lacking. A package that this Python has
stays its own, unless it is older than pyproject.toml asks. The wheels of a package are unpacked once, into `site/`.
Exit code 1, with a message for the user, where something is lacking that no wheel brings. Needs the standard library only.
"""

import re
import shutil
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "{}.{}".format(*sys.version_info)


def main() -> None:
    """Print PYTHONPATH's additions, or say what is lacking."""
    if sys.version_info < (3, 11):  # noqa: UP036  (it runs in whatever Python a lab machine has)
        sys.exit(f"latentmeter needs Python 3.11 to 3.13, and this is {PYTHON}: set LATENTMETER_PYTHON to one")
    bounds = requirements()
    wheels = {folder.name: folder for folder in (ROOT / f"wheels-{PYTHON}").glob("*/")}
    lacking = {name: why for name in bounds | wheels if (why := lacks(name, bounds.get(name, "0")))}
    if missing := {name: why for name, why in lacking.items() if name not in wheels}:
        lines = [f"{sys.executable} lacks packages that latentmeter needs:"]
        lines += [f"  {name}: {why}" for name, why in missing.items()]
        lines += [advice(list(missing))] if [*ROOT.glob("wheels-*")] else []  # a checkout makes an environment instead
        sys.exit("\n".join(lines))
    print(":".join(str(unpack(wheels[name])) for name in lacking))


def requirements() -> dict[str, str]:
    """The packages that latentmeter depends on, with their lowest versions."""
    import tomllib

    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return dict(re.match(r"([\w-]+)>=([\d.]+)", need).groups() for need in needs)  # type: ignore[union-attr]


def lacks(name: str, lowest: str) -> str | None:
    """Why the installed package does not do; None where it does."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return "not installed"
    return f"version {found}, and {lowest} or later is needed" if release(found) < release(lowest) else None


def release(text: str) -> list[int]:
    """The numbers that a version begins with: [2, 11, 0] of `2.11.0+cu130`."""
    return [int(number) for number in re.match(r"[\d.]*\d", text)[0].split(".")]  # type: ignore[index]


def unpack(wheels: Path) -> Path:
    """The folder with the content of all wheels in `wheels`; whole once it has its name."""
    site = ROOT / "site" / f"{wheels.name}-{PYTHON}"
    if not site.exists():
        partial = site.with_name(f"{site.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(partial)
        partial.rename(site)
    return site


def advice(missing: list[str]) -> str:
    """How to bring the packages that are missing."""
    made_for = [folder.name.removeprefix("wheels-") for folder in ROOT.glob("wheels-*")]
    if made_for and PYTHON not in made_for:
        return (
            f"This bundle is for Python {', '.join(made_for)}; `scripts/lab_bundle DIR --python {PYTHON}` makes yours."
        )
    if "torch" in missing:
        return "LATENTMETER_PYTHON names the Python that has torch; a bundle does not bring torch."
    adds = " ".join(f"--add {name}" for name in missing)
    return (
        f"Where there is a network, `scripts/lab_bundle DIR --python {PYTHON} {adds}` makes a folder that brings them."
    )


if __name__ == "__main__":
    main()
