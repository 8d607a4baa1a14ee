"""What to do where weights or configs cannot be read: a repository of the hub that gives nothing, a single file."""

from functools import cache
from pathlib import Path

from profiler.errors import UserError, first_line

SINGLE_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def check_no_single_file(name: str) -> None:
    """Raise UserError, saying what to do, for a checkpoint of one file."""
    if name.lower().endswith(SINGLE_FILES):
        raise UserError(
            f"{name}: a single file holds weights, not what they are the weights of. In Python, "
            'diffusers.StableDiffusionXLPipeline.from_single_file("...").save_pretrained("my-folder"), with the class that '
            "it was made for, writes a folder; give that, or an id of the catalog"
        )


@cache
def fetched(name: str, files: tuple[str, ...], known: tuple[str, ...]) -> Path:
    """The folder with such `files` of the hub's repository `name`. Raises UserError, saying what to do, for no repository.

    A star in `files` stands for folders too. `known` are the ids of the catalog: what is described there needs no hub.
    """
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    own = name.rpartition("/")[2].lower()
    same = f"the catalog's {own}, which needs no hub" if own in known else "an id of the catalog"
    instead = f"or give {same}, or a folder that `hf download {name}` wrote elsewhere"
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*files]))
    except GatedRepoError as error:
        raise UserError(
            f"{name}: gated: accept its terms at its page and log in with `hf auth login`, {instead}"
        ) from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = first_line(error)
        raise UserError(
            f"{name}: the hub cannot be reached or has no such repository ({why}): check both, {instead}"
        ) from error
