"""`ownvision backbone`: pre-trained networks beside the built-in ones."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import AsJson, Data, settings_with

if TYPE_CHECKING:
    from ownvision.learning.backbones import Backbone

app = typer.Typer(help="Backbones: networks whose features projects learn from", no_args_is_help=True)

Three = tuple[float, float, float]
Weights = Annotated[
    Path | None,
    typer.Option("--folder", help="Weights folder; default OWNVISION_WEIGHTS or `weights` in the data folder"),
]


@app.command("list")
def backbone_list(folder: Weights = None, data: Data = None, as_json: AsJson = False) -> None:
    """List the backbones, and check their weights; exit code 1 when one can't be used."""
    from ownvision.learning.backbones import BACKBONES
    from ownvision.learning.backbones.folder import register

    refused = [str(one) for one in register(_folder(folder, data))]
    rows = [_row(backbone) for backbone in BACKBONES.values()]
    if as_json:
        typer.echo(json.dumps({"backbones": rows, "refused": refused}, indent=2))
    else:
        for row in rows:
            about = f"{row['input_size']} px, {row['feature_dim']} features, {row['licence']}"
            typer.echo(f"{row['name']:<24}{row['domain'] or 'built in':<38}{about}: {row['wrong'] or 'ok'}")
        for sentence in refused:
            typer.echo(f"refused: {sentence}")
    if refused or any(row["wrong"] for row in rows):
        raise typer.Exit(1)


@app.command("add")
def backbone_add(
    name: Annotated[str, typer.Argument(help="What to call it: small letters, digits, - and _")],
    timm: Annotated[str | None, typer.Option("--timm", help="Name of a timm model, with its tag")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="The timm model's checkpoint; default: from its hub")
    ] = None,
    onnx: Annotated[Path | None, typer.Option("--onnx", help="An ONNX file whose output is pooled features")] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Which output of the ONNX file; not needed where it has one")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="Side of the ONNX file's square input, pixels")
    ] = None,
    mean: Annotated[
        Three | None,
        typer.Option("--mean", help="Mean of red, green, blue, of 0 to 255; 0 0 0 where it is in the file"),
    ] = None,
    std: Annotated[
        Three | None,
        typer.Option("--std", help="Deviation of red, green, blue, of 0 to 255; 1 1 1 where it is in the file"),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the weights; default: what timm says")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="What the given file must hash to; it is not used otherwise")
    ] = None,
    folder: Weights = None,
    data: Data = None,
) -> None:
    """Bring in a network: from timm (the extra `timm`), or an ONNX file. It is examined, tried and written whole."""
    from ownvision.learning.backbones import folder as weights_folder

    where = _folder(folder, data)
    try:
        if (timm is None) == (onnx is None):
            raise ClientError("Give one of --timm and --onnx.")
        _check_sha256(weights if onnx is None else onnx, sha256)
        if timm is not None:
            if output or input_size or mean or std:
                raise ClientError("Of a timm model its own configuration says what --output, --input-size, --mean say.")
            added = _from_timm(where, name, timm, weights, licence)
        else:
            if onnx is None or weights is not None or input_size is None or mean is None or std is None or not licence:
                raise ClientError("With --onnx go --input-size, --mean, --std and --licence, and no --weights.")
            added = weights_folder.add(
                where,
                name,
                onnx.read_bytes(),
                output=output,
                input_size=input_size,
                mean=mean,
                std=std,
                licence=licence,
                origin=f"ONNX file {onnx.name}",
            )
    except weights_folder.Refused as error:
        raise ClientError(str(error)) from None
    row = _row(added)
    typer.echo(
        f"{name} is in {where}: {added.input_size} px, {added.feature_dim} features, {added.licence}. Its domain is "
        f"{row['domain']}, from the service's next start on."
    )
    typer.echo(f"SHA-256 {added.sha256}")


def _from_timm(where: Path, name: str, model: str, weights: Path | None, licence: str | None) -> "Backbone":
    from ownvision.learning.backbones import folder as weights_folder
    from ownvision.learning.backbones.timm_model import exported

    made = exported(model, weights)
    return weights_folder.add(
        where,
        name,
        made.model,
        input_size=made.input_size,
        mean=made.mean,
        std=made.std,
        licence=licence or made.licence,
        origin=made.source,
    )


def _folder(given: Path | None, data: Path | None) -> Path:
    return settings_with(data=data, weights=given).weights_folder


def _check_sha256(path: Path | None, wanted: str | None) -> None:
    if wanted is None:
        return
    if path is None:
        raise ClientError("--sha256 goes with --onnx, or with --timm and --weights.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted.strip().lower():
        raise ClientError(
            f"{path} has the SHA-256 {found}, not {wanted}: it is another file, or was damaged on its way."
        )


def _row(backbone: "Backbone") -> dict[str, object]:
    from ownvision.domains import own_id
    from ownvision.errors import OwnVisionError
    from ownvision.learning.backbones import BUILT_IN

    try:
        backbone.read()
        wrong = None
    except OwnVisionError as error:
        wrong = error.message
    return {
        "name": backbone.name,
        "domain": None if backbone.name in BUILT_IN else own_id(backbone),
        "sha256": backbone.sha256,
        "licence": backbone.licence,
        "input_size": backbone.input_size,
        "mean": backbone.mean,
        "std": backbone.std,
        "feature_dim": backbone.feature_dim,
        "source": backbone.source,
        "wrong": wrong,
    }
