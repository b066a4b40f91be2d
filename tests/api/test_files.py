"""Addresses of bytes: signed, expiring, without a key, in ranges, cached, gone with what they belong to."""

import io
from datetime import timedelta

import httpx
import pytest
from PIL import Image as Picture

from ownvision.services import uris
from ownvision.store.tables.base import now
from tests.api.conftest import Service, jpeg, upload


def _large(client: httpx.Client, project: str) -> tuple[bytes, dict[str, str]]:
    """A picture above a frame of the store, larger than its resized copy, turned by EXIF, with a place in it."""
    noise = Picture.effect_noise((2400, 1800), 120).convert("RGB")
    exif = Picture.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=90, exif=exif)
    answer = client.post(f"/projects/{project}/images", content=buffer.getvalue())
    return buffer.getvalue(), answer.json()["images"][0]["image"]


def test_the_original_comes_back_as_it_was_and_copies_carry_no_exif(client: httpx.Client, project: str) -> None:
    data, image = _large(client, project)
    assert (int(image["width"]), int(image["height"])) == (1800, 2400)
    assert httpx.get(image["originalImageUri"]).content == data
    for name, side in (("resizedImageUri", 1600), ("thumbnailUri", 256)):
        for _ in range(2):  # made with the first request, kept for the second
            answer = httpx.get(image[name])
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
            picture = Picture.open(io.BytesIO(answer.content))
            assert max(picture.size) == side
            assert picture.size[0] < picture.size[1]
            assert len(picture.getexif()) == 0


def test_a_small_picture_is_its_own_resized_copy(client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)
    assert image["resizedImageUri"] == image["originalImageUri"]
    project_uri = client.get(f"/projects/{project}").json()["thumbnailUri"]
    assert httpx.get(project_uri).content == httpx.get(image["thumbnailUri"]).content


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=1048570-1048590", 1048570, 1048591),
        ("bytes=100-99999999", 100, None),
    ],
)
def test_ranges_are_read(client: httpx.Client, project: str, wanted: str, start: int, stop: int | None) -> None:
    data, image = _large(client, project)
    answer = httpx.get(image["originalImageUri"], headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == data[start:stop]
    begin = start % len(data)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(answer.content) - 1}/{len(data)}"


@pytest.mark.parametrize(("wanted", "status"), [("bytes=99999999-", 416), ("bytes=-", 200), ("lines=1-2", 200)])
def test_other_ranges_are_refused_or_ignored(client: httpx.Client, project: str, wanted: str, status: int) -> None:
    image = upload(client, project, 1)
    assert httpx.get(image["originalImageUri"], headers={"Range": wanted}).status_code == status


def test_browsers_can_cache(client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)
    answer = httpx.get(image["thumbnailUri"])
    assert "private, immutable, max-age=" in answer.headers["cache-control"]
    again = httpx.get(image["thumbnailUri"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    shown = client.get(f"/projects/{project}/images").json()[0]
    assert shown["thumbnailUri"] == image["thumbnailUri"]
    assert httpx.head(image["thumbnailUri"]).headers["content-length"] == str(len(answer.content))


def test_a_wrong_or_lapsed_signature_opens_nothing(api: Service, client: httpx.Client, project: str) -> None:
    first, second = (upload(client, project, seed)["originalImageUri"] for seed in (1, 2))
    query = first.partition("?")[2]
    path = uris.image_path(project, project, uris.ORIGINAL)
    expiry = (now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lapsed = api.components.keys.sign_uri(f"{path}\n{expiry}".encode())
    unsigned = (
        first.partition("?")[0],
        first.replace("sig=", "sig=A"),
        first.replace("&se=20", "&se=21"),
        second.partition("?")[0] + "?" + query,
        f"{api.url}{path}?se={expiry}&sig={lapsed}",
        f"{api.url}{path}?se=never&sig={api.components.keys.sign_uri(f'{path} never'.encode())}",
    )
    for url in unsigned:
        answer = httpx.get(url)
        assert (answer.status_code, answer.json()["code"]) == (403, "Forbidden")
    for path in ("/i-1/i-2", "/m-x/y.zip", "/predictionimages/a/o-b"):
        assert httpx.get(f"{api.url}{path}?{query}").status_code == 404


def test_what_was_deleted_is_gone_at_once(client: httpx.Client, project: str) -> None:
    image = upload(client, project, 1)
    uri = image["thumbnailUri"]
    assert httpx.get(uri).status_code == 200
    client.delete(f"/projects/{project}/images", params={"imageIds": image["id"]})
    answer = httpx.get(uri)
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFound")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_a_picture_is_served_as_what_it_is(client: httpx.Client, project: str, kind: str) -> None:
    buffer = io.BytesIO()
    Picture.open(io.BytesIO(jpeg(1))).save(buffer, kind)
    answer = client.post(f"/projects/{project}/images", content=buffer.getvalue())
    uri = answer.json()["images"][0]["image"]["originalImageUri"]
    assert httpx.get(uri).headers["content-type"] == f"image/{kind.lower()}"
