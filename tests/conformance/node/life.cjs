// A project's whole life in the words of the JavaScript clients; `driver.cjs` has what `run` does.
"use strict";

const NOWHERE = "00000000-0000-0000-0000-000000000001";

async function domains(run) {
  const found = await run.call("getDomains");
  const named = (type) => found.find((each) => each.name === "General (compact)" && each.type === type);
  run.compact = named("Classification");
  run.detectionDomain = named("ObjectDetection");
  run.equal("getDomain", await run.call("getDomain", run.compact.id), run.compact, "the domain");
}

async function project(run) {
  const name = `Conformance of JavaScript ${Date.now()}`;
  const made = await run.call("createProject", name, {
    description: "of the suite",
    domainId: run.compact.id,
    classificationType: "Multiclass",
    targetExportPlatforms: ["ONNX"],
  });
  run.equal("createProject", [made.name, made.description], [name, "of the suite"], "name and description");
  run.equal("createProject", made.settings.targetExportPlatforms, ["ONNX"], "target export platforms");
  run.project = made.id;
  const listed = await run.call("getProjects");
  run.expect("getProjects", listed.some((each) => each.id === made.id), "the project is not listed");
  run.equal("getProject", await run.call("getProject", made.id), made, "the project");
  const changed = await run.call("updateProject", made.id, { ...made, description: "changed" });
  run.equal("updateProject", [changed.name, changed.description], [name, "changed"], "name and description");
}

async function tags(run) {
  run.tags = {};
  for (const name of ["red", "blue", "spare"]) {
    const options = { description: `all that is ${name}`, type: "Regular" };
    const tag = await run.call("createTag", run.project, name, options);
    run.equal("createTag", [tag.name, tag.description, tag.imageCount], [name, options.description, 0], "the tag");
    run.tags[name] = tag.id;
  }
  const listed = await run.call("getTags", run.project);
  run.equal("getTags", listed.map((tag) => tag.name).sort(), ["blue", "red", "spare"], "the names");
  const read = await run.call("getTag", run.project, run.tags.spare);
  const changed = await run.call("updateTag", run.project, read.id, { ...read, name: "spare too" });
  run.equal("updateTag", changed.name, "spare too", "the name");
  const bare = await run.call("createTag", run.project, "bare");
  run.equal("createTag", bare.description, null, "the description that was not given");
  for (const id of [bare.id, read.id]) await run.call("deleteTag", run.project, id);
}

async function uploads(run) {
  const { red, blue } = run.tags;
  run.images = {};
  const keep = (operation, made) => {
    run.equal(operation, made.isBatchSuccessful, true, "success");
    for (const entry of made.images) run.images[entry.sourceUrl.replaceAll('"', "").split("/").at(-1)] = entry.image;
  };
  let operation = "createImagesFromData";
  const one = await run.call(operation, run.project, run.picture("red_00.jpg"), { tagIds: [red] });
  run.equal(operation, one.images[0].image.tags.map((tag) => tag.tagId), [red], "the tags");
  run.first = one.images[0].image;
  const again = await run.call(operation, run.project, run.picture("red_00.jpg"));
  run.equal(operation, again.images[0].status, "OKDuplicate", "status of the same picture");

  operation = "createImagesFromFiles";
  const files = (names, tagIds) => ({
    images: names.map((name) => ({ name, contents: run.picture(name), tagIds })),
    metadata: { "made by": "the suite" },
  });
  const numbers = [1, 2, 3, 4, 5, 6];
  for (const [name, tag] of [["red", red], ["blue", blue]]) {
    const batch = files(numbers.map((number) => `${name}_0${number}.jpg`), [tag]);
    keep(operation, await run.call(operation, run.project, batch));
  }
  keep(operation, await run.call(operation, run.project, files(["red_10.jpg", "red_11.jpg", "blue_11.jpg"], [])));
  const broken = { images: [{ name: "broken.jpg", contents: Buffer.from("no picture") }] };
  const refused = await run.call(operation, run.project, broken);
  run.equal(operation, refused.images[0].status, "ErrorImageFormat", "status of a broken picture");

  operation = "createImagesFromUrls";
  const images = [["red", red], ["blue", blue]].map(([name, tag]) => ({
    url: run.address(`${name}_07.jpg`),
    tagIds: [tag],
  }));
  keep(operation, await run.call(operation, run.project, { images, metadata: { "made by": "the suite" } }));

  const entry = { imageId: run.images["red_10.jpg"].id, tagId: red };
  for (const list of ["created", "duplicated"]) {
    const made = await run.call("createImageTags", run.project, { tags: [entry] });
    run.equal("createImageTags", made[list], [entry], list);
  }
  await run.call("deleteImageTags", run.project, [entry.imageId], [red]);
}

/** The lists and counts of the workspace, or of an iteration. */
async function reads(run, iterationId) {
  const { red } = run.tags;
  const page = { iterationId, orderBy: "Oldest", take: 50, skip: 1 };
  const tagged = await run.call("getTaggedImages", run.project, { tagIds: [red], ...page });
  run.equal("getTaggedImages", tagged.length, 7, "the number after the first of the red ones");
  run.equal("getTaggedImages", tagged[0].tags[0].tagName, "red", "the tag's name");
  await run.call("getUntaggedImages", run.project, page);
  const count = await run.call("getTaggedImageCount", run.project, { tagIds: [red], iterationId });
  run.equal("getTaggedImageCount", count, 8, "the count");
  await run.call("getUntaggedImageCount", run.project, { iterationId });
  const found = await run.call("getImagesByIds", run.project, { imageIds: [run.first.id], iterationId });
  run.equal("getImagesByIds", found.map((each) => each.id), [run.first.id], "the ids");
  const status = { taggingStatus: "Tagged", tagIds: [red], iterationId };
  const all = await run.call("getImages", run.project, { ...page, ...status });
  run.equal("getImages", all.length, 7, "the number after the first of the red ones");
  const counted = await run.call("getImageCount", run.project, status);
  run.equal("getImageCount", counted, 8, "the count");
  await run.call("getTags", run.project, { iterationId });
  await run.call("getTag", run.project, red, { iterationId });
}

async function images(run) {
  await reads(run);
  const made = await run.call("updateImageMetadata", run.project, [run.first.id], { place: "hall" });
  run.equal("updateImageMetadata", made.images[0].metadata, { place: "hall" }, "the metadata");
  const filter = "metadata=place eq 'hall'";
  const found = await run.call("getImages", run.project, { filter });
  run.equal("getImages", found.map((each) => each.id), [run.first.id], "what the filter finds");
  run.equal("getImageCount", await run.call("getImageCount", run.project, { filter }), 1, "the count");
}

async function artifact(run) {
  const answer = await run.call("getArtifact", run.project, run.first.originalImageUri);
  const chunks = [];
  for await (const chunk of answer.readableStreamBody) chunks.push(chunk);
  const right = Buffer.concat(chunks).equals(run.picture("red_00.jpg"));
  run.expect("getArtifact", right, "it is not the picture");
}

function trained(run, project, iteration) {
  return run.waitFor(
    () => run.call("getIteration", project, iteration.id),
    (now) => now.status !== "Training",
  );
}

async function training(run) {
  const started = await run.call("trainProject", run.project);
  run.equal("trainProject", started.status, "Training", "the status");
  run.iteration = await trained(run, run.project, started);
  run.equal("getIteration", run.iteration.status, "Completed", "the status after training");
  await run.refused("training", "trainProject", "training unchanged", null, run.project);
  const again = await run.call("trainProject", run.project, {
    trainingType: "Regular",
    reservedBudgetInHours: 0,
    forceTrain: true,
    notificationEmailAddress: "somebody@example.org",
    trainingParameters: {
      selectedTags: [run.tags.red, run.tags.blue],
      customBaseModelInfo: { projectId: run.project, iterationId: run.iteration.id },
    },
  });
  run.second = await trained(run, run.project, again);
  run.equal("trainProject", run.second.customBaseModelInfo?.iterationId, run.iteration.id, "the base model");
}

async function iterations(run) {
  const here = [run.project, run.iteration.id];
  const found = await run.call("getIterations", run.project);
  run.equal("getIterations", found.length, 2, "the number");
  const changed = await run.call("updateIteration", ...here, { name: "The first" });
  run.equal("updateIteration", changed.name, "The first", "the name");
  const thresholds = { threshold: 0.5, overlapThreshold: 0.3 };
  const performance = await run.call("getIterationPerformance", ...here, thresholds);
  const names = performance.perTagPerformance.map((tag) => tag.name).sort();
  run.equal("getIterationPerformance", names, ["blue", "red"], "the tags");
  const tagIds = [run.tags.red, run.tags.blue];
  const page = { orderBy: "Newest", take: 50, skip: 0 };
  const seen = await run.call("getImagePerformances", ...here, { tagIds, ...page });
  const count = await run.call("getImagePerformanceCount", ...here, { tagIds });
  run.expect("getImagePerformanceCount", count > 0 && count === seen.length, `${count} counted, ${seen.length} listed`);
  await reads(run, run.iteration.id);
  const resource = run.facts.resource_id;
  const done = await run.call("publishIteration", ...here, "of JavaScript", resource, { overwrite: true });
  run.equal("publishIteration", done, true, "the answer");
  const read = await run.call("getIteration", ...here);
  const published = [read.publishName, read.originalPublishResourceId];
  run.equal("getIteration", published, ["of JavaScript", resource], "publishName and resource");
}

/** A prediction of the classifier: the right tag first. */
function judge(run, operation, found, tag) {
  run.equal(operation, [found.project, found.iteration], [run.project, run.iteration.id], "project and iteration");
  run.equal(operation, run.headers["apim-request-id"], found.id, "the request's id beside the prediction's id");
  run.equal(operation, found.predictions[0].tagName, tag, "the first tag");
}

async function predictions(run) {
  const options = { iterationId: run.iteration.id, store: true };
  judge(run, "quickTestImage", await run.call("quickTestImage", run.project, run.picture("red_20.jpg"), options), "red");
  const url = { url: run.address("blue_20.jpg") };
  judge(run, "quickTestImageUrl", await run.call("quickTestImageUrl", run.project, url, options), "blue");
  for (const operation of run.operations.prediction.filter((name) => name.startsWith("classify"))) {
    const given = operation.includes("Url") ? { url: run.address("red_21.jpg") } : run.picture("red_21.jpg");
    const found = await run.call(operation, run.project, "of JavaScript", given, { application: "script" });
    judge(run, operation, found, "red");
  }
}

async function stored(run) {
  const token = { orderBy: "Oldest", maxCount: 10, application: "script" };
  const found = await run.call("queryPredictions", run.project, token);
  run.equal("queryPredictions", found.results.length, 2, "the number of predictions of the application");
  const [first, second] = found.results;
  const images = [{ id: first.id, tagIds: [run.tags.red] }];
  const made = await run.call("createImagesFromPredictions", run.project, { images });
  run.equal("createImagesFromPredictions", made.images[0].sourceUrl, first.id, "the source");
  await run.call("deletePrediction", run.project, [second.id]);
  const left = await run.call("queryPredictions", run.project, { orderBy: "Newest", maxCount: 10 });
  const gone = !left.results.some((each) => each.id === second.id);
  run.expect("deletePrediction", gone, "the prediction is still there");
}

async function exports_(run) {
  const here = [run.project, run.iteration.id];
  for (const flavor of [undefined, "ONNX12"]) {
    const made = await run.call("exportIteration", ...here, "ONNX", { flavor });
    run.equal("exportIteration", made.platform, "ONNX", "the platform");
  }
  const done = await run.waitFor(
    () => run.call("getExports", ...here),
    (found) => found.every((each) => each.status !== "Exporting"),
  );
  run.equal("getExports", done.map((each) => each.status), ["Done", "Done"], "the statuses");
}

async function suggestions(run) {
  const here = [run.project, run.iteration.id];
  const ids = ["red_11.jpg", "blue_11.jpg"].map((name) => run.images[name].id);
  const found = await run.call("suggestTagsAndRegions", ...here, ids);
  const names = found.map((each) => each.predictions[0].tagName).sort();
  run.equal("suggestTagsAndRegions", names, ["blue", "red"], "the suggested tags");
  const filter = { tagIds: [run.tags.red], threshold: 0.1 };
  const counts = await run.call("querySuggestedImageCount", ...here, filter);
  run.equal("querySuggestedImageCount", Object.keys(counts), filter.tagIds, "the tags");
  const query = { ...filter, maxCount: 10, sortBy: "UncertaintyAscending" };
  const suggested = await run.call("querySuggestedImages", ...here, query);
  const there = suggested.results.some((each) => each.id === ids[0]);
  run.expect("querySuggestedImages", there, "red is missing");
}

async function regions(run) {
  const domainId = run.detectionDomain.id;
  run.boxes = (await run.call("createProject", `Boxes of JavaScript ${Date.now()}`, { domainId })).id;
  const tag = await run.call("createTag", run.boxes, "disc");
  const made = await run.call("createImagesFromData", run.boxes, run.picture("scene_00.jpg"));
  const imageId = made.images[0].image.id;
  run.scene = imageId;
  const box = { left: 0.55, top: 0.2, width: 0.25, height: 0.3 };
  const batch = { regions: [{ imageId, tagId: tag.id, ...box }] };
  const summary = await run.call("createImageRegions", run.boxes, batch);
  run.equal("createImageRegions", summary.created[0].tagId, tag.id, "the tag");
  const found = await run.call("getTaggedImages", run.boxes);
  run.equal("getTaggedImages", found[0].regions.length, 1, "the number of regions");
  await run.call("deleteImageRegions", run.boxes, [summary.created[0].regionId]);
}

async function proposals(run) {
  const found = await run.call("getImageRegionProposals", run.boxes, run.scene);
  run.equal("getImageRegionProposals", found.imageId, run.scene, "the image");
}

async function detection(run) {
  const { project, published } = run.facts.detection;
  for (const operation of run.operations.prediction.filter((name) => name.startsWith("detect"))) {
    const given = operation.includes("Url") ? { url: run.address("scene_00.jpg") } : run.picture("scene_00.jpg");
    const found = await run.call(operation, project, published, given, { application: "boxes" });
    const boxes = found.predictions.map((each) => each.boundingBox);
    run.expect(operation, boxes.length > 0 && boxes.every(Boolean), "a detector gave no box");
  }
}

async function travel(run) {
  const told = await run.call("exportProject", run.project);
  const made = await run.call("importProject", told.token, { name: `Imported by JavaScript ${Date.now()}` });
  const here = await run.waitFor(
    () => run.call("getProject", made.id),
    (found) => found.status !== "Importing",
  );
  run.equal("importProject", here.status, "Succeeded", "the status");
  await run.call("deleteProject", made.id);
}

async function refusals(run) {
  const key = "0".repeat(32);
  await run.refused("training", "getProjects", "wrong key", key);
  await run.refused("training", "getProject", "unknown project", null, NOWHERE);
  const given = [run.project, "never published", { url: run.address("red_00.jpg") }];
  await run.refused("prediction", "classifyImageUrl", "wrong key", key, ...given);
  await run.refused("prediction", "classifyImageUrl", "unknown iteration", null, ...given);
}

async function theEnd(run) {
  const here = [run.project, run.iteration.id];
  await run.call("deleteImages", run.project, { imageIds: [run.first.id] });
  await run.call("deleteImages", run.project, { allImages: true, allIterations: true });
  const left = await run.waitFor(
    () => run.call("getImageCount", run.project),
    (count) => count === 0,
  );
  run.equal("deleteImages", left, 0, "the number of images left");
  await run.call("unpublishIteration", ...here);
  const read = await run.call("getIteration", ...here);
  run.equal("unpublishIteration", read.publishName, null, "publishName");
  await run.call("deleteIteration", run.project, run.second.id);
  await run.call("deleteTag", run.project, run.tags.blue);
  for (const id of [run.project, run.boxes]) await run.call("deleteProject", id);
}

const STEPS = [
  domains,
  project,
  tags,
  uploads,
  images,
  artifact,
  training,
  iterations,
  predictions,
  stored,
  exports_,
  suggestions,
  regions,
  proposals,
  detection,
  travel,
  refusals,
  theEnd,
];

module.exports = { STEPS };
