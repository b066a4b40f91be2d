"""Domains: a choice of backbone, input size and exportability, by the original's well-known ids.

One table; the API, the services, the documentation and the tests read it. Every backbone of the weights folder has a
domain of its own behind them.
"""

import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ownvision.learning.backbones import Backbone

log = logging.getLogger("ownvision.domains")

CLASSIFICATION = "Classification"
DETECTION = "ObjectDetection"


@dataclass(frozen=True)
class Domain:
    """A starting point for a project.

    Attributes:
        id: The GUID that programs written for the original pass.
        name: The name the original shows.
        type: ``Classification`` or ``ObjectDetection``.
        backbone: Key into `ownvision.learning.backbones.BACKBONES`.
        exportable: Whether iterations of it can be exported (the compact ones).
        platforms: Export platforms that have an exporter.
        enabled: Whether new projects may use it.
    """

    id: str
    name: str
    type: str
    backbone: str
    exportable: bool = False
    platforms: tuple[str, ...] = ()
    enabled: bool = True

    @property
    def tiles(self) -> bool:
        """Whether its detectors may look at a picture in tiles; readers of exported files give them one look."""
        return not self.exportable


_LITE0, _JOINED = "efficientnet_lite0", "efficientnet_lite0_lite2"
_EXPORTS = ("ONNX",)


def _full(id: str, name: str, type: str = CLASSIFICATION) -> Domain:
    # The detector trains on lite0 everywhere: on two cores a larger backbone would miss the minute and a half.
    return Domain(id, name, type, _JOINED if type == CLASSIFICATION else _LITE0)


def _compact(id: str, name: str, type: str = CLASSIFICATION) -> Domain:
    return Domain(id, name, type, _LITE0, exportable=True, platforms=_EXPORTS)


class _Domains(dict[str, Domain]):
    """Domains by id; asked for with `get`, one that is not here is None."""

    def __missing__(self, id: str) -> Domain:
        # What was trained on a backbone that the weights folder no longer holds: its models hold theirs whole and go on
        # serving; only what needs the backbone itself, as training does, fails, and says why.
        return Domain(id, "Not here", CLASSIFICATION, id, exportable=True, platforms=_EXPORTS, enabled=False)


DOMAINS = _Domains(
    (domain.id, domain)
    for domain in (
        _full("ee85a74c-405e-4adc-bb47-ffa8ca0c9f31", "General"),
        _full("c151d5b5-dd07-472a-acc8-15d29dea8518", "Food"),
        _full("ca455789-012d-4b50-9fec-5bb63841c793", "Landmarks"),
        _full("b30a91ae-e3c1-4f73-a81e-c270bff27c39", "Retail"),
        _full("45badf75-3591-4f26-a705-45678d3e9f5f", "Adult"),
        _compact("0732100f-1a38-4e49-a514-c9b44c697ab5", "General (compact)"),
        _compact("8882951b-82cd-4c32-970b-d5f8cb8bf6d7", "Food (compact)"),
        _compact("b5cfd229-2ac7-4b2b-8d0a-2b0661344894", "Landmarks (compact)"),
        _compact("6b4faeda-8396-481b-9f8b-177b9fa3097f", "Retail (compact)"),
        _full("da2e3a8a-40a5-4171-82f4-58522f70fbc1", "General", DETECTION),
        _full("1d8ffafe-ec40-4fb2-8f90-72b3b6cecea4", "Logo", DETECTION),
        _full("3780a898-81c3-4516-81ae-3a139614e1f3", "Products on Shelves", DETECTION),
        _compact("a27d5ca5-bb19-49d8-a70a-fec086c47f5b", "General (compact)", DETECTION),
        _compact("7ec2ac80-887b-48a6-8df9-8b1357765430", "General (compact) [S1]", DETECTION),
        _full("a8e3c40f-fb4a-466f-832a-5e457ae4a344", "General [A1]"),
        _full("2e37d7fb-3a54-486a-b4d6-cfc369af0018", "General [A2]"),
        _compact("a1db07ca-a19a-4830-bae8-e004a42dc863", "General (compact) [S1]"),
        _full("9c616dff-2e7d-ea11-af59-1866da359ce6", "General [A1]", DETECTION),
    )
)

GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
S1_DETECTION = "7ec2ac80-887b-48a6-8df9-8b1357765430"
_OF_BACKBONES = uuid.UUID("5c0ff6c2-3f3c-4b5e-9a43-6d0f5f1f2d0b")


def open_weights(where: Path) -> list[str]:
    """Give every backbone of a weights folder its domain, instead of those of any folder before.

    Returns:
        What is wrong with the folder's entries, one sentence each; such are passed over.
    """
    from ownvision.learning.backbones import (
        BACKBONES,
        BUILT_IN,
        folder,
    )  # 20 MB that `ownvision --help` need not wait for

    wrong = [str(refused) for refused in folder.register(where)]
    for sentence in wrong:
        log.warning("%s", sentence)
    for id in [domain.id for domain in DOMAINS.values() if domain.backbone not in BUILT_IN]:
        del DOMAINS[id]
    own = (_own(backbone) for name, backbone in BACKBONES.items() if name not in BUILT_IN)
    DOMAINS.update((domain.id, domain) for domain in own)
    return wrong


def own_id(backbone: "Backbone") -> str:
    """The id of a backbone's domain.

    It follows from the weights: the same in every installation that has them, another once they are replaced.
    """
    return str(uuid.uuid5(_OF_BACKBONES, backbone.fingerprint))


def _own(backbone: "Backbone") -> Domain:
    return Domain(own_id(backbone), backbone.name, CLASSIFICATION, backbone.name, exportable=True, platforms=_EXPORTS)
