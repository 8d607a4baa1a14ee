"""`latentmeter models`: the catalog, or one model's file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from profiler.commands.options import emit, json_option
from profiler.commands.tables import PLAIN_WIDTH, console, print_table

if TYPE_CHECKING:
    from profiler.models.spec import Component, ModelSpec


@click.command()
@click.argument("model", required=False)
@json_option
def models(model: str | None, as_json: bool) -> None:
    """List the catalog, or show MODEL with the source of each value."""
    from profiler.files.load import to_dict
    from profiler.models.catalog import catalog
    from profiler.models.find import find_model

    if model is None:
        specs = catalog()
        data = {name: to_dict(spec) for name, spec in specs.items()}
        emit(data, as_json, lambda _: show_models(specs))
    else:
        spec = find_model(model)
        emit(to_dict(spec), as_json, lambda _: show_model(to_dict(spec, exclude_none=True)))


def show_models(catalog: "Mapping[str, ModelSpec]") -> None:
    """One row a model, family by family."""
    specs = sorted(catalog.values(), key=lambda spec: (spec.kind, spec.family or "", spec.id))
    print_table(
        ["model", "family", "kind", "VAE", "denoiser", "default size", "latent C, s x t"],
        [
            [
                *(spec.id, spec.family or "", spec.kind, _parameters(spec.vae), _parameters(spec.denoiser)),
                f"{size.frames}x{size.height}x{size.width}" if (size := spec.default) else "none",
                f"{c.channels}, {c.spatial_compression} x {c.temporal_compression}" if (c := spec.contract) else "?",
            ]
            for spec in specs
        ],
    )
    console().print("`latentmeter models ID` shows one with its sources; `latentmeter estimate ID` estimates it.")


def show_model(data: dict[str, Any]) -> None:
    """A model's file as YAML, sources included."""
    import yaml

    console().print(yaml.safe_dump(data, sort_keys=False, width=PLAIN_WIDTH).rstrip())


def _parameters(component: "Component | None") -> str:
    """Parameters in millions or billions; `?` where they are not counted, `-` where the model has no such component."""
    if component is None:
        return "-"
    count = component.parameters
    return "?" if count is None else f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
