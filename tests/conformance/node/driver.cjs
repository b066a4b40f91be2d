// Calls every operation of the newest official JavaScript clients. What is read and sent is printed, one JSON object
// per line; `wire.py` judges it. The first argument names a JSON file with the facts: endpoint, keys, pictures.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { ApiKeyCredentials, DefaultHttpClient } = require("@azure/ms-rest-js");
const training = require("@azure/cognitiveservices-customvision-training");
const prediction = require("@azure/cognitiveservices-customvision-prediction");
const life = require("./life.cjs");

const LIBRARIES = {
  training: { Client: training.TrainingAPIClient, mappers: training.TrainingAPIMappers, header: "Training-Key" },
  prediction: {
    Client: prediction.PredictionAPIClient,
    mappers: prediction.PredictionAPIMappers,
    header: "Prediction-Key",
  },
};
const SIMPLE = {
  Uuid: "str",
  String: "str",
  Enum: "str",
  ByteArray: "str",
  DateTime: "iso-8601",
  Number: "number",
  Boolean: "bool",
  TimeSpan: "duration",
  Stream: "stream",
};
const DEADLINE_MS = 240_000;

function emit(kind, fields) {
  process.stdout.write(JSON.stringify({ kind, ...fields }) + "\n");
}

/** The type of a mapper, in the words that the Python drivers use. */
function declared(type) {
  if (type.name === "Composite") return type.className;
  if (type.name === "Sequence") return `[${declared(type.element.type)}]`;
  if (type.name === "Dictionary") return `{${declared(type.value.type)}}`;
  return SIMPLE[type.name];
}

function schemaOf(mappers) {
  const composites = Object.entries(mappers).filter(([, mapper]) => mapper.type?.name === "Composite");
  return Object.fromEntries(
    composites.map(([name, mapper]) => [
      name,
      Object.entries(mapper.type.modelProperties).map(([property, inner]) => [
        property,
        inner.serializedName,
        declared(inner.type),
        inner.type.allowedValues ?? [],
      ]),
    ]),
  );
}

/** How a deserialised value is not what its mapper makes of the JSON. */
function differences(value, type, raw, mappers, where) {
  const wrong = [`${where}: ${JSON.stringify(raw)} was read as ${JSON.stringify(value)}`];
  if (raw === undefined || raw === null) return value === undefined || value === null ? [] : wrong;
  switch (type.name) {
    case "Sequence":
      if (!Array.isArray(value) || value.length !== raw.length) return wrong;
      return raw.flatMap((each, at) => differences(value[at], type.element.type, each, mappers, `${where}[${at}]`));
    case "Dictionary":
      return Object.keys(raw).flatMap((key) =>
        differences(value[key], type.value.type, raw[key], mappers, `${where}.${key}`),
      );
    case "Composite": {
      const properties = type.modelProperties ?? mappers[type.className].type.modelProperties;
      return Object.entries(properties).flatMap(([property, inner]) =>
        differences(value[property], inner.type, raw[inner.serializedName], mappers, `${where}.${property}`),
      );
    }
    case "DateTime":
      return value instanceof Date && !Number.isNaN(value.getTime()) ? [] : wrong;
    default:
      return value === raw ? [] : wrong;
  }
}

class OperationFailed extends Error {}

class Run {
  constructor(facts) {
    this.facts = facts;
    this.clients = {};
    this.operations = {};
    this.sent = {};
    this.known = {};
    for (const [api, library] of Object.entries(LIBRARIES)) {
      this.clients[api] = this.clientOf(api, facts[`${api}_key`]);
      this.operations[api] = Object.getOwnPropertyNames(library.Client.prototype).filter(
        (name) => name !== "constructor",
      );
    }
    this.versions = Object.fromEntries(
      Object.entries(this.clients).map(([api, client]) => [api, /customvision\/(v[^/]+)\//.exec(client.baseUri)[1]]),
    );
    emit("client", {
      versions: this.versions,
      operations: Object.fromEntries(
        Object.entries(this.operations).map(([api, names]) => [
          api,
          Object.fromEntries(names.map((name) => [name, []])),
        ]),
      ),
      schema: Object.fromEntries(Object.entries(LIBRARIES).map(([api, { mappers }]) => [api, schemaOf(mappers)])),
    });
  }

  clientOf(api, key) {
    const { Client, header } = LIBRARIES[api];
    const plain = new DefaultHttpClient();
    // The errors that the client throws have lost the body as it was sent.
    const httpClient = {
      sendRequest: async (request) => {
        const response = await plain.sendRequest(request);
        this.body = response.bodyAsText;
        return response;
      },
    };
    const credentials = new ApiKeyCredentials({ inHeader: { [header]: key } });
    const client = new Client(credentials, this.facts.endpoint, { httpClient });
    const send = client.sendOperationRequest.bind(client);
    // The description that the client itself sends by tells what each status is read as.
    client.sendOperationRequest = (given, spec, callback) => {
      this.spec = spec;
      this.given = given;
      return send(given, spec, callback);
    };
    return client;
  }

  apiOf(operation) {
    return this.operations.training.includes(operation) ? "training" : "prediction";
  }

  problem(operation, text) {
    emit("problem", { operation, text });
  }

  expect(operation, condition, text) {
    if (!condition) this.problem(operation, text);
  }

  equal(operation, got, wanted, what) {
    const [left, right] = [got, wanted].map((value) => JSON.stringify(value));
    this.expect(operation, left === right, `${what} is ${left}, not ${right}`);
  }

  /** Notes which query parameters an operation has, and which were sent. */
  note(operation) {
    this.known[operation] ??= new Set();
    this.sent[operation] ??= new Set();
    for (const { parameterPath } of this.spec.queryParameters ?? []) {
      const steps = [parameterPath].flat();
      this.known[operation].add(steps.at(-1));
      if (steps.reduce((at, step) => at?.[step], this.given) !== undefined) this.sent[operation].add(steps.at(-1));
    }
  }

  /** Calls an operation, records the answer and returns what the client made of it. */
  async call(operation, ...given) {
    const api = this.apiOf(operation);
    let result;
    try {
      result = await this.clients[api][operation](...given);
    } catch (error) {
      this.problem(operation, `${error.name}: ${error.message} ${this.body}`.slice(0, 2000));
      throw new OperationFailed(`${operation} failed`);
    }
    this.note(operation);
    const response = result._response;
    const bodyMapper = this.spec.responses[response.status]?.bodyMapper;
    const stream = bodyMapper?.type.name === "Stream";
    this.headers = response.headers.rawHeaders();
    emit("exchange", {
      api,
      operation,
      declared: bodyMapper ? declared(bodyMapper.type) : null,
      status: response.status,
      headers: this.headers,
      body: stream ? "" : (response.bodyAsText ?? ""),
    });
    if (stream) return result;
    if (bodyMapper) {
      const raw = JSON.parse(response.bodyAsText);
      const { mappers } = LIBRARIES[api];
      const found = differences(response.parsedBody, bodyMapper.type, raw, mappers, operation);
      for (const text of found) this.problem(operation, text);
    }
    return response.parsedBody;
  }

  /** Calls an operation that must be refused, and prints how it was. */
  async refused(api, operation, what, key, ...given) {
    const client = key === null ? this.clients[api] : this.clientOf(api, key);
    const line = { api, operation, case: what };
    try {
      await client[operation](...given);
      emit("refusal", { ...line, status: 200, body: "" });
    } catch (error) {
      emit("refusal", { ...line, status: error.statusCode ?? 0, body: this.body ?? String(error) });
    }
  }

  picture(name) {
    return fs.readFileSync(path.join(this.facts.pictures, name));
  }

  address(name) {
    return `${this.facts.pictures_url}/${name}`;
  }

  /** Asks until the answer has arrived; the last answer at the deadline. */
  async waitFor(ask, arrived) {
    const deadline = Date.now() + DEADLINE_MS;
    let answer = await ask();
    while (!arrived(answer) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      answer = await ask();
    }
    return answer;
  }
}

async function main() {
  const run = new Run(JSON.parse(fs.readFileSync(process.argv[2], "utf8")));
  for (const step of life.STEPS) {
    try {
      await step(run);
    } catch (error) {
      emit("unfinished", { step: step.name, text: `${error.name}: ${error.message}` });
      if (!(error instanceof OperationFailed)) console.error(error);
    }
  }
  for (const [operation, known] of Object.entries(run.known)) {
    for (const parameter of known) {
      run.expect(operation, run.sent[operation].has(parameter), `parameter ${parameter} was never sent`);
    }
  }
}

main();
