/**
 * Stops threads between two calls of ONNX Runtime. A thread that is ended inside one takes the whole process with it
 * (`terminate called after throwing an instance of 'Napi::Error'`), so who ends threads first lets them park.
 */
export interface Parking {
  /** goes to the thread in its `workerData`, which gives it to `parkOn` */
  readonly cells: Int32Array
  /** Returns once no thread is inside a call; none begins another. Blocks, so that it can be used as a process exits. */
  park(): void
}

const STOP = 0
const BUSY = 1
/** A run of the largest network on a slow machine is shorter; then the process ends, whatever comes of it. */
const PATIENCE_MS = 10_000

let cells: Int32Array | undefined

export function openParking(): Parking {
  const shared = new Int32Array(new SharedArrayBuffer(8))
  return {
    cells: shared,
    park() {
      Atomics.store(shared, STOP, 1)
      const until = Date.now() + PATIENCE_MS
      for (let busy = Atomics.load(shared, BUSY); busy > 0 && Date.now() < until; busy = Atomics.load(shared, BUSY)) {
        Atomics.wait(shared, BUSY, busy, 50)
      }
    },
  }
}

/** Makes the calls of this thread stop when the holder of the cells says so. */
export function parkOn(shared: Int32Array): void {
  cells = shared
}

/** Does one call of the native library, unless this thread is to park: then it waits for its end. */
export async function inCall<T>(call: () => Promise<T>): Promise<T> {
  if (!cells) return call()
  Atomics.add(cells, BUSY, 1)
  try {
    if (Atomics.load(cells, STOP) === 0) return await call()
  } finally {
    Atomics.sub(cells, BUSY, 1)
    Atomics.notify(cells, BUSY)
  }
  return new Promise(() => {})
}
