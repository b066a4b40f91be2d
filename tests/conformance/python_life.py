"""A project's whole life in the words of the Python client, whatever its version; `python_driver.Run` calls.

A step that fails ends there; the others go on where they can. An operation that no step reaches fails the suite.
"""

import io
import time
import urllib.request
from pathlib import Path

COMPACT = "General (compact)"
NOWHERE = "00000000-0000-0000-0000-000000000001"
DEADLINE_SECONDS = 240.0


def wait_for(ask, arrived):
    """Ask until the answer has arrived; the last answer at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    answer = ask()
    while not arrived(answer) and time.monotonic() < deadline:
        time.sleep(0.1)
        answer = ask()
    return answer


def picture(run, name):
    return (Path(run.facts["pictures"]) / name).read_bytes()


def address(run, name):
    return f"{run.facts['pictures_url']}/{name}"


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def address_of(image):
    """Where the original of an image is read: `imageUri` up to v2.1."""
    return getattr(image, "original_image_uri", None) or image.image_uri


def account(run):
    if not run.has("get_account_info"):
        return
    found = run.call("get_account_info")
    run.equal(
        "get_account_info", found.keys.training_keys.primary_key, run.facts["training_key"], "the primary training key"
    )
    run.equal(
        "get_account_info",
        found.keys.prediction_keys.primary_key,
        run.facts["prediction_key"],
        "the primary prediction key",
    )


def domains(run):
    found = run.call("get_domains")
    run.expect("get_domains", len(found) >= 8, f"only {len(found)} domains")
    run.compact = next(
        d for d in found if d.name == COMPACT and getattr(d, "type", "Classification") == "Classification"
    )
    run.detection_domain = next((d for d in found if getattr(d, "type", None) == "ObjectDetection"), None)
    one = run.call("get_domain", domain_id=run.compact.id)
    run.equal("get_domain", one, run.compact, "the domain")


def project(run):
    name = f"Conformance {run.versions['training']} {time.time_ns()}"
    made = run.call(
        "create_project",
        name=name,
        description="of the suite",
        domain_id=run.compact.id,
        classification_type="Multiclass",
        target_export_platforms=["ONNX"],
    )
    run.equal("create_project", made.name, name, "name")
    run.equal("create_project", made.description, "of the suite", "description")
    run.equal("create_project", made.settings.domain_id, run.compact.id, "domain")
    if run.takes("create_project", "classification_type"):
        run.equal("create_project", made.settings.classification_type, "Multiclass", "classification type")
    if run.takes("create_project", "target_export_platforms"):
        run.equal("create_project", made.settings.target_export_platforms, ["ONNX"], "target export platforms")
    run.project = made.id
    listed = run.call("get_projects")
    run.expect("get_projects", made.id in [each.id for each in listed], "the project is not listed")
    read = run.call("get_project", project_id=made.id)
    run.equal("get_project", read, made, "the project")
    read.description = "of the suite, changed"
    changed = run.call("update_project", project_id=made.id, updated_project=read)
    run.equal("update_project", changed.description, "of the suite, changed", "description")
    run.equal("update_project", changed.name, name, "name")


def tags(run):
    run.tags = {}
    for name in ("red", "blue", "spare"):
        tag = run.call(
            "create_tag", project_id=run.project, name=name, description=f"all that is {name}", type="Regular"
        )
        run.equal("create_tag", (tag.name, tag.description), (name, f"all that is {name}"), "name and description")
        run.equal("create_tag", tag.image_count, 0, "image count")
        run.tags[name] = tag.id
    listed = run.call("get_tags", project_id=run.project)
    names = sorted(tag.name for tag in getattr(listed, "tags", listed))
    run.equal("get_tags", names, ["blue", "red", "spare"], "the names")
    read = run.call("get_tag", project_id=run.project, tag_id=run.tags["spare"])
    run.equal("get_tag", read.id, run.tags["spare"], "the id")
    changed = run.call(
        "update_tag",
        project_id=run.project,
        tag_id=read.id,
        name="spare too",
        description="changed",
        updated_tag=run.model("Tag", name="spare too", description="changed", type="Regular"),
    )
    run.equal("update_tag", (changed.name, changed.description), ("spare too", "changed"), "name and description")
    bare = run.call("create_tag", project_id=run.project, name="bare")
    run.equal("create_tag", bare.description, None, "the description that was not given")
    for tag_id in (bare.id, run.tags.pop("spare")):
        run.call("delete_tag", project_id=run.project, tag_id=tag_id)
    listed = run.call("get_tags", project_id=run.project)
    names = sorted(tag.name for tag in getattr(listed, "tags", listed))
    run.equal("delete_tag", names, ["blue", "red"], "the names left")


def uploads(run):
    red, blue = run.tags["red"], run.tags["blue"]
    operation = "create_images_from_data"
    made = run.call(operation, project_id=run.project, image_data=picture(run, "red_00.jpg"), tag_ids=[red])
    run.equal(operation, (made.is_batch_successful, made.images[0].status), (True, "OK"), "success")
    run.equal(operation, [tag.tag_id for tag in made.images[0].image.tags], [red], "the tags")
    run.equal(operation, (made.images[0].image.width, made.images[0].image.height), (96, 80), "the size")
    run.images = {"red_00.jpg": made.images[0].image}
    with open(Path(run.facts["pictures"]) / "red_01.jpg", "rb") as file:
        made = run.call(operation, project_id=run.project, image_data=file, tag_ids=[red])
    run.equal(operation, made.images[0].status, "OK", "status of a file")
    made = run.call(operation, project_id=run.project, image_data=io.BytesIO(picture(run, "red_01.jpg")))
    run.equal(operation, made.images[0].status, "OKDuplicate", "status of the same picture")

    files(run, [f"red_0{number}.jpg" for number in range(2, 7)], tag_ids=[red])
    files(run, [f"blue_0{number}.jpg" for number in range(7)], each=[blue])
    files(run, [f"{name}_1{number}.jpg" for name in ("red", "blue") for number in range(3)])
    broken(run)
    urls(run)


def files(run, names, tag_ids=None, each=None):
    """Upload pictures by name, with tags of the batch or of each entry."""
    operation = "create_images_from_files"
    entries = [
        run.model("ImageFileCreateEntry", name=name, contents=picture(run, name), tag_ids=each) for name in names
    ]
    metadata = {"made by": "the suite"}
    made = run.call(
        operation,
        project_id=run.project,
        images=entries,
        tag_ids=tag_ids,
        batch=run.model("ImageFileCreateBatch", images=entries, tag_ids=tag_ids, metadata=metadata),
    )
    run.equal(operation, {entry.status for entry in made.images}, {"OK"}, "the statuses")
    run.equal(operation, sorted(entry.source_url.strip('"') for entry in made.images), sorted(names), "the sources")
    for entry in made.images:
        wanted = tag_ids or each or []
        run.equal(operation, [tag.tag_id for tag in entry.image.tags or []], wanted, "the tags")
        if hasattr(entry.image, "metadata"):
            run.equal(operation, entry.image.metadata, metadata, "the metadata")
        run.images[entry.source_url.strip('"')] = entry.image


def broken(run):
    """A batch that is refused in part: 207 from v3.3 on, 200 before."""
    operation = "create_images_from_files"
    entries = [run.model("ImageFileCreateEntry", name="broken.jpg", contents=b"no picture")]
    made = run.call(
        operation, project_id=run.project, images=entries, batch=run.model("ImageFileCreateBatch", images=entries)
    )
    run.equal(operation, made.is_batch_successful, False, "success of a broken picture")
    run.equal(operation, made.images[0].status, "ErrorImageFormat", "status of a broken picture")
    run.equal(operation, made.images[0].image, None, "the image of a broken picture")


def urls(run):
    operation = "create_images_from_urls"
    entries = [
        run.model("ImageUrlCreateEntry", url=address(run, f"{name}_07.jpg"), tag_ids=[run.tags[name]])
        for name in ("red", "blue")
    ]
    made = run.call(
        operation,
        project_id=run.project,
        images=entries,
        tag_ids=[],
        batch=run.model("ImageUrlCreateBatch", images=entries, metadata={"made by": "the suite"}),
    )
    run.equal(operation, {entry.status for entry in made.images}, {"OK"}, "the statuses")
    run.equal(operation, {entry.source_url for entry in made.images}, {entry.url for entry in entries}, "the sources")


def image_tags(run):
    operation = "create_image_tags" if run.has("create_image_tags") else "post_image_tags"
    image, tag = run.images["red_10.jpg"].id, run.tags["red"]
    entry = run.model("ImageTagCreateEntry", image_id=image, tag_id=tag)
    for list_name in ("created", "duplicated"):
        made = run.call(operation, project_id=run.project, tags=[entry])
        found = [(each.image_id, each.tag_id) for each in getattr(made, list_name) or []]
        run.equal(operation, found, [(image, tag)], list_name)
    run.call("delete_image_tags", project_id=run.project, image_ids=[image], tag_ids=[tag])


def reads(run, iteration=None):
    """The lists and counts of the workspace, or of an iteration."""
    red = run.tags["red"]
    common = {"project_id": run.project, "iteration_id": iteration}
    page = {"order_by": "Oldest", "take": 50, "skip": 1}
    found = run.call("get_tagged_images", tag_ids=[red], **page, **common)
    run.equal("get_tagged_images", len(found), 7, "the number after the first of the red ones")
    run.equal("get_tagged_images", found[0].tags[0].tag_id, red, "the tag")
    if hasattr(found[0].tags[0], "tag_name"):
        run.equal("get_tagged_images", found[0].tags[0].tag_name, "red", "the tag's name")
    dates = [image.created for image in found]
    run.equal("get_tagged_images", dates, sorted(dates), "the order of dates")
    if iteration is None:
        found = run.call("get_untagged_images", **page, **common)
        run.equal("get_untagged_images", len(found), 5, "the number after the first of the untagged ones")
        run.expect("get_untagged_images", not any(image.tags for image in found), "an image has tags")
    else:
        run.call("get_untagged_images", **page, **common)
    if run.has("get_tagged_image_count"):
        run.equal("get_tagged_image_count", run.call("get_tagged_image_count", tag_ids=[red], **common), 8, "the count")
        count = run.call("get_untagged_image_count", **common)
        run.expect("get_untagged_image_count", iteration is not None or count == 6, f"the count is {count}, not 6")
    if run.has("get_images_by_ids"):
        image = run.images["red_00.jpg"]
        found = run.call("get_images_by_ids", image_ids=[image.id], **common)
        run.equal("get_images_by_ids", [each.id for each in found], [image.id], "the ids")
    listed = run.call("get_tags", **common)
    counts = {tag.name: tag.image_count for tag in getattr(listed, "tags", listed)}
    run.equal("get_tags", (counts["red"], counts["blue"]), (8, 8), "the numbers of images")
    run.call("get_tag", tag_id=red, **common)


def images(run):
    reads(run)
    content = fetch(address_of(run.images["red_00.jpg"]))
    run.expect("create_images_from_data", len(content) > 500, "the picture can't be read at its address")
    if run.has("update_image_metadata"):
        operation = "update_image_metadata"
        ids = [run.images["red_00.jpg"].id]
        made = run.call(operation, project_id=run.project, image_ids=ids, metadata={"place": "hall"})
        run.equal(operation, (made.is_batch_successful, made.images[0].status), (True, "OK"), "success")
        run.equal(operation, made.images[0].metadata, {"place": "hall"}, "the metadata")
        query = {"project_id": run.project, "tagging_status": "Tagged", "filter": "metadata=place eq 'hall'"}
        found = run.call(
            "get_images", tag_ids=[run.tags["red"]], order_by="Newest", take=10, skip=0, iteration_id=None, **query
        )
        run.equal("get_images", [image.id for image in found], ids, "what the filter finds")
        count = run.call("get_image_count", tag_ids=[run.tags["red"]], iteration_id=None, **query)
        run.equal("get_image_count", count, 1, "the count")


def artifact(run):
    if run.has("get_artifact"):
        content = run.call("get_artifact", project_id=run.project, path=address_of(run.images["red_00.jpg"]))
        run.expect("get_artifact", content == picture(run, "red_00.jpg"), "it is not the picture")


def trained(run, project_id, iteration, operation="get_iteration"):
    """The iteration once it is no longer training."""
    done = wait_for(
        lambda: run.call("get_iteration", project_id=project_id, iteration_id=iteration.id),
        lambda now: now.status != "Training",
    )
    run.equal(operation, done.status, "Completed", "the status after training")
    return done


def training(run):
    started = run.call("train_project", project_id=run.project)
    run.equal("train_project", (started.status, started.project_id), ("Training", run.project), "status and project")
    run.expect("train_project", started.trained_at is None, "it was trained before it was trained")
    run.iteration = trained(run, run.project, started)
    run.equal("get_iteration", run.iteration.domain_id, run.compact.id, "the domain")
    run.expect("get_iteration", run.iteration.exportable is True, "a compact iteration is not exportable")
    run.refused("training", "train_project", "training unchanged", project_id=run.project)
    if run.takes("train_project", "force_train"):
        again = run.call(
            "train_project",
            project_id=run.project,
            training_type="Regular",
            reserved_budget_in_hours=0,
            force_train=True,
            notification_email_address="somebody@example.org",
            selected_tags=[run.tags["red"], run.tags["blue"]],
            custom_base_model_info=run.model(
                "CustomBaseModelInfo", project_id=run.project, iteration_id=run.iteration.id
            ),
        )
        run.second = trained(run, run.project, again)
        if hasattr(again, "custom_base_model_info"):
            base = run.second.custom_base_model_info
            run.equal("train_project", base and base.iteration_id, run.iteration.id, "the base model's iteration")


def iterations(run):
    here = {"project_id": run.project, "iteration_id": run.iteration.id}
    found = run.call("get_iterations", project_id=run.project)
    run.expect("get_iterations", run.iteration.id in [each.id for each in found], "the iteration is not listed")
    changed = run.call("update_iteration", name="The first", is_default=True, **here)
    run.equal("update_iteration", changed.name, "The first", "the name")
    if hasattr(changed, "is_default"):
        run.equal("update_iteration", changed.is_default, True, "isDefault")
    performance = run.call("get_iteration_performance", threshold=0.5, overlap_threshold=0.3, **here)
    run.equal(
        "get_iteration_performance",
        sorted(tag.name for tag in performance.per_tag_performance),
        ["blue", "red"],
        "the tags",
    )
    run.expect("get_iteration_performance", performance.recall > 0.5, f"red and blue: recall {performance.recall}")
    if run.has("get_image_performances"):
        page = {"tag_ids": [run.tags["red"], run.tags["blue"]], "order_by": "Newest", "take": 50, "skip": 0}
        seen = run.call("get_image_performances", **page, **here)
        count = run.call("get_image_performance_count", tag_ids=page["tag_ids"], **here)
        run.expect("get_image_performance_count", count == len(seen) > 0, f"{count} counted, {len(seen)} listed")
        run.expect("get_image_performances", all(each.predictions for each in seen), "an image has no predictions")
    reads(run, iteration=run.iteration.id)


def publishing(run):
    if not run.has("publish_iteration"):
        return
    here = {"project_id": run.project, "iteration_id": run.iteration.id}
    run.published = f"suite {run.versions['training']}"
    done = run.call(
        "publish_iteration", publish_name=run.published, prediction_id=run.facts["resource_id"], overwrite=True, **here
    )
    run.equal("publish_iteration", done, True, "the answer")
    read = run.call("get_iteration", **here)
    run.equal("get_iteration", read.publish_name, run.published, "publishName")
    run.equal("get_iteration", read.original_publish_resource_id, run.facts["resource_id"], "originalPublishResourceId")


def quick_tests(run):
    operation, here = "quick_test_image", {"project_id": run.project, "iteration_id": run.iteration.id}
    found = run.call(operation, image_data=picture(run, "red_20.jpg"), store=True, **here)
    judge(run, operation, found, "red")
    operation = "quick_test_image_url"
    found = run.call(operation, url=address(run, "blue_20.jpg"), store=True, **here)
    judge(run, operation, found, "blue")


def judge(run, operation, found, tag):
    """A prediction of the classifier: both tags, the right one first."""
    run.equal(operation, found.project, run.project, "the project")
    run.equal(operation, found.iteration, run.iteration.id, "the iteration")
    run.equal(operation, run.headers.get("apim-request-id"), found.id, "the request's id beside the prediction's id")
    names = [getattr(each, "tag_name", None) or each.tag for each in found.predictions]
    run.equal(operation, names[:1], [tag], "the first tag")
    probabilities = [each.probability for each in found.predictions]
    run.equal(operation, probabilities, sorted(probabilities, reverse=True), "the order of probabilities")
    run.expect(
        operation, not any(getattr(each, "bounding_box", None) for each in found.predictions), "a classifier gave a box"
    )


def predictions(run):
    """Both ways to ask: by default iteration (v1, v2) and by publish name (v3)."""
    number = 21
    for operation in run.operations["prediction"]:
        if operation.startswith("detect"):
            continue
        colour = "red" if number % 2 else "blue"
        found = run.call(
            operation,
            project_id=run.project,
            published_name=getattr(run, "published", None),
            iteration_id=run.iteration.id,
            image_data=picture(run, f"{colour}_{number}.jpg"),
            url=address(run, f"{colour}_{number}.jpg"),
            application="suite",
        )
        judge(run, operation, found, colour)
        if run.takes(operation, "iteration_id"):
            found = run.call(
                operation,
                project_id=run.project,
                image_data=picture(run, f"{colour}_{number}.jpg"),
                url=address(run, f"{colour}_{number}.jpg"),
            )
            judge(run, operation, found, colour)
        number += 1


def stored(run):
    operation = "query_predictions" if run.has("query_predictions") else "query_prediction_results"
    token = run.model("PredictionQueryToken", order_by="Newest", max_count=10, iteration_id=run.iteration.id)
    found = run.call(operation, project_id=run.project, query=token)
    run.expect(operation, len(found.results) >= 4, f"{len(found.results)} stored predictions, not 4 or more")
    token = run.model("PredictionQueryToken", order_by="Oldest", max_count=10, application="suite")
    named = run.call(operation, project_id=run.project, query=token)
    run.equal(operation, len(named.results), 2, "the number of predictions of the application")
    run.equal(operation, named.token.application, "suite", "the application in the token")
    run.expect(operation, len(fetch(address_of(found.results[0]))) > 500, "the picture can't be read at its address")

    operation, prediction = "create_images_from_predictions", named.results[0].id
    entries = [run.model("ImageIdCreateEntry", id=prediction, tag_ids=[run.tags["red"]])]
    made = run.call(
        operation,
        project_id=run.project,
        images=entries,
        tag_ids=[],
        batch=run.model("ImageIdCreateBatch", images=entries),
    )
    run.equal(operation, [each.status for each in made.images], ["OK"], "the statuses")
    run.equal(operation, made.images[0].source_url, prediction, "the source")
    others = [each.id for each in found.results if each.id != prediction]
    run.call("delete_prediction", project_id=run.project, ids=others)
    token = run.model("PredictionQueryToken", order_by="Newest", max_count=10)
    operation = "query_predictions" if run.has("query_predictions") else "query_prediction_results"
    left = [each.id for each in run.call(operation, project_id=run.project, query=token).results]
    run.expect("delete_prediction", not set(left) & set(others), "a deleted prediction is still there")


def exports(run):
    here = {"project_id": run.project, "iteration_id": run.iteration.id}
    flavors = [None, "ONNX12"] if run.versions["training"] >= "v2.2" else [None]
    for flavor in flavors:
        made = run.call("export_iteration", platform="ONNX", flavor=flavor, **here)
        run.equal("export_iteration", (made.platform, made.download_uri), ("ONNX", None), "platform and downloadUri")
    run.supplied["export_iteration"].add("flavor")
    done = wait_for(
        lambda: run.call("get_exports", **here), lambda found: all(each.status != "Exporting" for each in found)
    )
    run.equal("get_exports", [each.status for each in done], ["Done"] * len(flavors), "the statuses")
    run.equal("get_exports", fetch(done[0].download_uri)[:2], b"PK", "the start of the archive")


def suggestions(run):
    if not run.has("suggest_tags_and_regions"):
        return
    here = {"project_id": run.project, "iteration_id": run.iteration.id}
    ids = [run.images[f"{name}_11.jpg"].id for name in ("red", "blue")]
    found = run.call("suggest_tags_and_regions", image_ids=ids, **here)
    run.equal("suggest_tags_and_regions", len(found), 2, "the number of suggestions")
    names = sorted(each.predictions[0].tag_name for each in found)
    run.equal("suggest_tags_and_regions", names, ["blue", "red"], "the suggested tags")
    red = run.tags["red"]
    counts = run.call("query_suggested_image_count", tag_ids=[red], threshold=0.1, **here)
    run.equal("query_suggested_image_count", list(counts), [red], "the tags")
    run.expect("query_suggested_image_count", counts[red] >= 1, f"{counts[red]} suggested images")
    token = run.model(
        "SuggestedTagAndRegionQueryToken", tag_ids=[red], threshold=0.1, max_count=10, sort_by="UncertaintyAscending"
    )
    found = run.call("query_suggested_images", query=token, **here)
    run.expect(
        "query_suggested_images", run.images["red_11.jpg"].id in [each.id for each in found.results], "red is missing"
    )
    run.equal("query_suggested_images", found.token.tag_ids, [red], "the tags in the token")


def regions(run):
    """Boxes on an image of a detection project of this client's own."""
    if not run.has("create_image_regions"):
        return
    made = run.call(
        "create_project",
        name=f"Boxes {run.versions['training']} {time.time_ns()}",
        domain_id=run.detection_domain.id,
    )
    run.boxes = made.id
    tag = run.call("create_tag", project_id=made.id, name="disc")
    box = {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.25}
    entries = [
        run.model(
            "ImageFileCreateEntry",
            name="scene.jpg",
            contents=picture(run, "scene_00.jpg"),
            regions=[run.model("Region", tag_id=tag.id, **box)],
        )
    ]
    batch = run.model("ImageFileCreateBatch", images=entries)
    image = (
        run.call("create_images_from_files", project_id=made.id, images=entries, batch=batch, tag_ids=None)
        .images[0]
        .image
    )
    run.equal("create_images_from_files", [each.tag_id for each in image.regions or []], [tag.id], "the regions")
    box["left"] = 0.55
    entry = run.model("ImageRegionCreateEntry", image_id=image.id, tag_id=tag.id, **box)
    made = run.call("create_image_regions", project_id=run.boxes, regions=[entry])
    region = made.created[0]
    run.equal("create_image_regions", (region.image_id, region.tag_id), (image.id, tag.id), "image and tag")
    for side, wanted in box.items():
        got = getattr(region, side)
        run.expect("create_image_regions", abs(got - wanted) < 1e-6, f"{side} is {got}, not {wanted}")
    found = run.call("get_tagged_images", project_id=run.boxes)
    run.equal("get_tagged_images", [len(each.regions) for each in found], [2], "the number of regions")
    run.scene = image.id
    run.call("delete_image_regions", project_id=run.boxes, region_ids=[region.region_id])
    found = run.call("get_tagged_images", project_id=run.boxes)
    run.equal("delete_image_regions", [len(each.regions) for each in found], [1], "the number of regions left")


def proposals(run):
    if run.has("get_image_region_proposals"):
        found = run.call("get_image_region_proposals", project_id=run.boxes, image_id=run.scene)
        run.equal("get_image_region_proposals", found.image_id, run.scene, "the image")
        run.expect("get_image_region_proposals", found.proposals, "nothing was proposed for a red disc")


def detection(run):
    """Predictions of the detector that the suite trained once for every client."""
    shared = run.facts["detection"]
    if not run.has("create_image_regions"):
        # v1.x knows no detection: its predictions have no boxes.
        return
    names = [name for name in run.operations["prediction"] if name.startswith("detect")]
    for operation in names or run.operations["prediction"]:
        found = run.call(
            operation,
            project_id=shared["project"],
            published_name=shared["published"],
            iteration_id=shared["iteration"],
            image_data=picture(run, "scene_00.jpg"),
            url=address(run, "scene_00.jpg"),
            application="boxes",
        )
        run.expect(operation, len(found.predictions) > 0, "nothing was detected")
        if hasattr(found.predictions[0], "bounding_box"):
            run.expect(operation, all(each.bounding_box for each in found.predictions), "a detector gave no box")
    if run.has("get_image_performances"):
        seen = run.call("get_image_performances", project_id=shared["project"], iteration_id=shared["iteration"])
        run.expect("get_image_performances", any(each.regions for each in seen), "no image has regions")


def suggested_boxes(run):
    shared = run.facts["detection"]
    if run.has("suggest_tags_and_regions"):
        found = run.call(
            "suggest_tags_and_regions",
            project_id=shared["project"],
            iteration_id=shared["iteration"],
            image_ids=[shared["untagged"]],
        )
        boxes = [each.bounding_box for suggestion in found for each in suggestion.predictions]
        run.expect("suggest_tags_and_regions", boxes and all(boxes), "a detector suggested no boxes")


def travel(run):
    if not run.has("export_project"):
        return
    told = run.call("export_project", project_id=run.project)
    run.expect("export_project", told.image_count >= 22 and told.tag_count == 2, f"{told}")
    made = run.call("import_project", token=told.token, name=f"Imported {time.time_ns()}")
    here = wait_for(
        lambda: run.call("get_project", project_id=made.id), lambda found: getattr(found, "status", "") != "Importing"
    )
    run.equal("import_project", here.status, "Succeeded", "the status")
    tags = sorted(tag.name for tag in run.call("get_tags", project_id=made.id))
    run.equal("import_project", tags, ["blue", "red"], "the tags")
    count = run.call("get_tagged_image_count", project_id=made.id)
    run.equal("import_project", count, run.call("get_tagged_image_count", project_id=run.project), "the images")
    run.call("delete_project", project_id=made.id)


def refusals(run):
    run.refused("training", "get_projects", "wrong key", key="0" * 32)
    run.refused("training", "get_project", "unknown project", project_id=NOWHERE)
    operation = "classify_image_url" if run.has("classify_image_url") else "predict_image_url"
    given = {
        "project_id": run.project,
        "published_name": "never published",
        "iteration_id": NOWHERE,
        "url": address(run, "red_00.jpg"),
    }
    run.refused("prediction", operation, "wrong key", key="0" * 32, **given)
    run.refused("prediction", operation, "unknown iteration", **given)


def the_end(run):
    """Everything is deleted again, the smaller before the larger."""
    here = {"project_id": run.project, "iteration_id": run.iteration.id}
    run.call("delete_images", project_id=run.project, image_ids=[run.images["red_00.jpg"].id])
    if run.takes("delete_images", "all_images"):
        run.call("delete_images", project_id=run.project, all_images=True, all_iterations=True)
        gone = (
            wait_for(lambda: run.call("get_image_count", project_id=run.project), lambda n: n == 0)
            if run.has("get_image_count")
            else 0
        )
        run.equal("delete_images", gone, 0, "the number of images left")
    if run.has("unpublish_iteration"):
        run.call("unpublish_iteration", **here)
        run.equal("unpublish_iteration", run.call("get_iteration", **here).publish_name, None, "publishName")
    last = run.second.id if hasattr(run, "second") else run.iteration.id
    if not hasattr(run, "second") and not run.has("unpublish_iteration"):
        run.call("update_iteration", name="The first", is_default=False, **here)
    run.call("delete_iteration", project_id=run.project, iteration_id=last)
    left = [each.id for each in run.call("get_iterations", project_id=run.project)]
    run.expect("delete_iteration", last not in left, "the iteration is still there")
    run.call("delete_tag", project_id=run.project, tag_id=run.tags["blue"])
    for project_id in filter(None, (run.project, getattr(run, "boxes", None))):
        run.call("delete_project", project_id=project_id)
    listed = [each.id for each in run.call("get_projects")]
    run.expect("delete_project", run.project not in listed, "the project is still there")


STEPS = (
    account,
    domains,
    project,
    tags,
    uploads,
    image_tags,
    images,
    artifact,
    training,
    iterations,
    publishing,
    quick_tests,
    predictions,
    stored,
    exports,
    suggestions,
    regions,
    proposals,
    detection,
    suggested_boxes,
    travel,
    refusals,
    the_end,
)
