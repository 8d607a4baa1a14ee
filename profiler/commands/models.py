"""`latentmeter models`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from profiler.commands.tables import PLAIN_WIDTH, console, new_table

if TYPE_CHECKING:
    from profiler.models.spec import Component, ModelSpec

from profiler.commands.options import emit, json_option


@click.command()
@click.argument("model", required=False)
@json_option
def models(model: str | None, as_json: bool) -> None:
    """List the catalog, or show MODEL with the source of each value."""
    from profiler.models.catalog import catalog
    from profiler.models.find import find_model

    if model is None:
        emit(
            {name: spec.model_dump(by_alias=True) for name, spec in catalog().items()},
            as_json,
            lambda _: show_models(catalog()),
        )
    else:
        spec = find_model(model)
        emit(spec.model_dump(by_alias=True), as_json, lambda _: show_model(spec))


def show_models(catalog: "Mapping[str, ModelSpec]") -> None:
    """One row a model, family by family."""
    table = new_table("model", "family", "kind", "VAE", "denoiser", "default size", "latent C, s x t")
    for spec in sorted(catalog.values(), key=lambda spec: (spec.kind, spec.family or "", spec.id)):
        size = spec.default
        clip = f"{size.frames}x{size.height}x{size.width}" if size else "none"
        latent = spec.contract
        compression = (
            f"{latent.channels}, {latent.spatial_compression} x {latent.temporal_compression}" if latent else "?"
        )
        vae, denoiser = (_parameters(component) for component in (spec.vae, spec.denoiser))
        table.add_row(spec.id, spec.family or "", spec.kind, vae, denoiser, clip, compression)
    console().print(table)
    console().print("`latentmeter models ID` shows one with its sources; `latentmeter estimate ID` estimates it.")


def _parameters(component: "Component | None") -> str:
    """Parameters in millions or billions; `?` where they are not counted, `-` where the model has no such component."""
    if component is None:
        return "-"
    count = component.parameters
    return "?" if count is None else f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def show_model(spec: "ModelSpec") -> None:
    """A model's file as YAML, sources included."""
    import yaml

    data = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    console().print(yaml.safe_dump(data, sort_keys=False, width=PLAIN_WIDTH).rstrip())
