/**
 * Every way in which a request, a file or a command can be wrong.
 *
 * `exit` is the exit code of a command that ends with it, `http` the status of a route.
 * `docs/errors.md` is generated from this table.
 */
export const errorCatalogue = {
  USAGE: {
    exit: 2,
    http: 400,
    meaning: 'An argument or option is missing, unknown or malformed.',
    solve: 'See `blockscale help <command>` or `/openapi.json` for what is expected.',
  },
  NOT_FOUND: {
    exit: 1,
    http: 404,
    meaning: 'A file, folder, route or record that was named does not exist.',
    solve: 'Check the name; `blockscale models` and `blockscale inspect` list what there is.',
  },
  MODEL_UNKNOWN: {
    exit: 1,
    http: 404,
    meaning: 'No model of this name is installed, built or in the catalogue.',
    solve: 'List the models with `blockscale models`, fetch one with `pull` and prepare it with `build`.',
  },
  MODEL_NOT_ONNX: {
    exit: 1,
    http: 400,
    meaning: 'The file is not an ONNX model, or it is truncated.',
    solve: 'Export or download the model again; the file must be a serialised ModelProto.',
  },
  MODEL_UNSUPPORTED: {
    exit: 1,
    http: 400,
    meaning: 'ONNX Runtime cannot run this model here.',
    solve: 'Read the reason in the message; export the model with standard operators.',
  },
  MODEL_CARD_INVALID: {
    exit: 1,
    http: 400,
    meaning: 'model.json does not follow its format.',
    solve: 'Mend the field that the message names; docs/model-card.md describes each.',
  },
  CUT_IMPOSSIBLE: {
    exit: 1,
    http: 400,
    meaning: 'The graph cannot be cut where it was asked to be.',
    solve: 'Add the values that the message names to the border, or ask for other borders.',
  },
  GRAPH_INVALID: {
    exit: 1,
    http: 500,
    meaning: 'A graph failed its check after it was read or changed.',
    solve: 'If it came from a file, the file is damaged; otherwise report it with the model.',
  },
  PICTURES_MISSING: {
    exit: 1,
    http: 400,
    meaning: 'A folder holds no readable picture, or too few of them.',
    solve: 'Give a folder with JPEG, PNG or WebP pictures.',
  },
  PICTURE_UNREADABLE: {
    exit: 1,
    http: 400,
    meaning: 'The bytes are not a readable JPEG, PNG or WebP picture.',
    solve: 'Send the picture as JPEG, PNG or WebP, within the size limits.',
  },
  PICTURE_TOO_LARGE: {
    exit: 1,
    http: 413,
    meaning: 'The picture has more pixels or bytes than is allowed.',
    solve: 'Scale the picture down before sending it.',
  },
  BODY_TOO_LARGE: {
    exit: 1,
    http: 413,
    meaning: 'The body of a request has more bytes than is allowed.',
    solve: 'Send less in one request; tensors are smaller in binary than as JSON.',
  },
  TENSOR_INVALID: {
    exit: 1,
    http: 400,
    meaning: 'A tensor has another type, shape or length than the model takes.',
    solve: 'Send the type and shape that the message names.',
  },
  ZOO_DAMAGED: {
    exit: 1,
    http: 500,
    meaning: 'A file of the zoo is missing or its checksum differs from its manifest.',
    solve: 'Build the model again; only what is missing is made anew.',
  },
  ZOO_LOCKED: {
    exit: 1,
    http: 409,
    meaning: 'Another process is building in this zoo.',
    solve: 'Wait for it to end, or use another folder with --zoo.',
  },
  ZOO_NOT_WRITABLE: {
    exit: 1,
    http: 507,
    meaning: 'A file cannot be written: the folder is read-only or the disk is full.',
    solve: 'Free some space or allow writing, or use another folder with --zoo; nothing was left half-written.',
  },
  DATABASE_NEWER: {
    exit: 1,
    http: 500,
    meaning: 'profiles.db was written by a newer version.',
    solve: 'Update blockscale, or use another zoo.',
  },
  DATABASE_FAILED: {
    exit: 1,
    http: 500,
    meaning: 'profiles.db could not be read or written.',
    solve: 'Check that the folder is writable and the disk not full.',
  },
  PROBLEM_INVALID: {
    exit: 2,
    http: 400,
    meaning: 'An optimisation problem holds a value that makes no sense.',
    solve: 'Mend the field that the message names.',
  },
  PLAN_INFEASIBLE: {
    exit: 3,
    http: 409,
    meaning: 'No choice of descendants fits the limits.',
    solve: 'Raise the limit that the message names to at least the value given there.',
  },
  PLAN_INVALID: {
    exit: 2,
    http: 400,
    meaning: 'A plan names a block or descendant that the zoo does not hold.',
    solve: 'Make the plan again with `blockscale plan … --json`.',
  },
  DOWNLOAD_FAILED: {
    exit: 1,
    http: 502,
    meaning: 'A model could not be fetched.',
    solve: 'Check the connection, or give a folder that holds the file with --from.',
  },
  CHECKSUM_MISMATCH: {
    exit: 1,
    http: 409,
    meaning: 'A file has another sha256 than expected.',
    solve: 'Get the file again from its source.',
  },
  OVERLOADED: {
    exit: 1,
    http: 503,
    meaning: 'More requests are waiting than can be answered in time.',
    solve: 'Try again after the seconds given in Retry-After, or send fewer frames.',
  },
  DEADLINE_EXCEEDED: {
    exit: 1,
    http: 504,
    meaning: 'The answer could not be given before its deadline.',
    solve: 'Allow more time, or a faster plan.',
  },
  CANCELLED: {
    exit: 1,
    http: 499,
    meaning: 'The caller gave up before the answer was there.',
    solve: 'Nothing to do; send the request again if it was not meant.',
  },
  UNAUTHORISED: {
    exit: 1,
    http: 401,
    meaning: 'The request carries no valid token.',
    solve: 'Send `Authorization: Bearer <token>`.',
  },
  FORBIDDEN: {
    exit: 1,
    http: 403,
    meaning: 'The request comes from a web page of another site, or names another host.',
    solve: 'Call the service by its own address; other hosts and sites need a token.',
  },
  METHOD_NOT_ALLOWED: {
    exit: 1,
    http: 405,
    meaning: 'The route exists, but not with this method.',
    solve: 'Use a method named in the Allow header; `/openapi.json` lists the routes.',
  },
  TOO_MANY_ATTEMPTS: {
    exit: 1,
    http: 429,
    meaning: 'Too many requests with a wrong token came from this address.',
    solve: 'Wait for the seconds given in Retry-After and use the right token.',
  },
  ENGINE_FAILED: {
    exit: 1,
    http: 500,
    meaning: 'A network could not be run, or no inference thread can be started.',
    solve: 'Look at the reason in the message. If it persists, run `blockscale doctor`.',
  },
  ENGINE_LOST: {
    exit: 1,
    http: 503,
    meaning: 'The inference thread that had the request ended; another one takes its place.',
    solve: 'Send the request again after the seconds given in Retry-After.',
  },
  INTERNAL: {
    exit: 1,
    http: 500,
    meaning: 'Something happened that should not.',
    solve: 'Report it with the message.',
  },
} as const satisfies Record<string, { exit: number; http: number; meaning: string; solve: string }>

export type ErrorCode = keyof typeof errorCatalogue

/** An error that a user can act on: what failed, with the values, and what to do next. */
export class BlockscaleError extends Error {
  readonly code: ErrorCode
  readonly hint: string

  constructor(code: ErrorCode, message: string, hint?: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'BlockscaleError'
    this.code = code
    this.hint = hint ?? errorCatalogue[code].solve
  }
}

/** Any thrown thing as a `BlockscaleError`; what is not one becomes `INTERNAL`. */
export function asBlockscaleError(thrown: unknown): BlockscaleError {
  if (thrown instanceof BlockscaleError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new BlockscaleError('INTERNAL', message, undefined, { cause: thrown })
}
