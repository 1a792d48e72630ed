/** What a benchmark asks, the published figure that it answers, and what makes the two different. */
export interface Published {
  readonly title: string
  readonly asks: string
  readonly published: string
  readonly differs: string
}

const LEGODNN = 'LegoDNN (Han et al., MobiCom 2021, arXiv 2112.09852)'

const answers: readonly (readonly [start: string, Published])[] = [
  [
    'frontier',
    {
      title: 'Quality at equal limits',
      asks: "The best mix of descendants for each limit of latency or of weights, measured as one fused graph on pictures that nothing else has seen; beside it, where they fit, LegoDNN's recipe under the same optimizer, one pruning level for the whole network, and 8-bit integers throughout.",
      published: `${LEGODNN}: up to 31.74 % better accuracy than whole-model scaling at equal limits.`,
      differs:
        "there, descendants are pruned and trained for 65 epochs and compared with filter pruning, distillation and compression of whole models; here they are pruned with a least-squares refit and quantised, without training, and what they are compared with is made with the same care: LegoDNN's recipe gets 60 steps of distillation for each descendant where ours gets none, uniform pruning the same choice of channels and refit. Descendants that lose to others everywhere are not offered.",
    },
  ],
  [
    'build',
    {
      title: 'The offline stage, and the number of models',
      asks: 'How long a build takes, what it takes of the memory, and how many models its blocks can be combined to (`options`, for one input size).',
      published: `${LEGODNN}: 5 to 8 blocks give 1,296 to 279,936 times more model sizes than whole-model scaling; a rerun by one of its users trained the blocks of VGG16 for 4 h 06 min on a GPU.`,
      differs:
        'there, each block beyond the first is a factor of six; here kinds differ (int8, pruned, both), dominated ones are dropped, and the share of `options` that is worth having is what the frontier shows. Built on two CPU cores.',
    },
  ],
  [
    'main-job',
    {
      title: 'Several networks in one service, with less and less memory',
      asks: 'Networks that are served together while the budget is halved twice: what of their blocks is exchanged, whether every request is answered meanwhile (`unanswered`), and how many answers are still right.',
      published: `none: the public code of ${LEGODNN} scales one model, without a budget that several share and without a service.`,
      differs:
        'one budget for all, block by block, over HTTP, with pictures posted during each change. Milliseconds of a busy machine say little here; answers and exchanged blocks do not depend on it.',
    },
  ],
  [
    'recovery',
    {
      title: 'Better weights for one combination',
      asks: 'What solving the layers of a chosen combination again, on the inputs that they really get, and distilling it afterwards, gain on pictures that they have not seen.',
      published: `${LEGODNN}: every descendant is trained for 65 epochs against its block's output; its public code trains no combination as a whole.`,
      differs:
        'here only the combination in force is improved, from a few hundred pictures without labels, in minutes on a CPU; what is not better on held-out pictures is not kept.',
    },
  ],
  [
    'prediction',
    {
      title: 'Predicted against measured combinations',
      asks: 'How far the prediction of a random combination is from its measurement, on pictures and combinations that it was not fitted on.',
      published: `the public code of ${LEGODNN} predicts with the mean loss in three surroundings; no error is published.`,
      differs:
        'its profile is measured on the test pictures; here no picture is in both sets. `ofBothSplits` is how far even the right answer would be off by chance, with these numbers of pictures. Errors of latency say something only where the load was low while the profile and the combinations were measured.',
    },
  ],
  [
    'optimizer',
    {
      title: 'Solver times',
      asks: 'How long a plan takes, and how far from the proven bound it is.',
      published: `${LEGODNN}, rerun by one of its users: 87 ms for 30 binary variables, one model, with CBC as a process of its own.`,
      differs:
        'here several models share memory and cores and one of several input sizes is chosen as well; glpk.js in a thread, with a decomposition of our own.',
    },
  ],
  [
    'runtime',
    {
      title: 'The cost of cutting, of scaling and of starting',
      asks: 'Fused and chained blocks against the uncut network; a swap of blocks against loading the whole model, in time, CPU time and bytes; traces of changing budgets; the first answer after a start.',
      published: `${LEGODNN}: 71.07 % less energy of scaling than whole-model scaling; a user's rerun: swaps of 3.6 to 22.9 ms for 0 to 38 MB, and the sum of blocks 46 % above the whole model. Cold start: NNV12 (arXiv 2206.07446), up to 15.2 times faster on CPUs.`,
      differs:
        'there, weights are copied into a PyTorch module on a Jetson or a phone; here compiled blocks are mapped from disk, the comparison is with loading the same whole model through the same engine, and energy is not reported by the machine.',
    },
  ],
  [
    'http',
    {
      title: 'What the service adds',
      asks: 'Latency, throughput and overload over HTTP against the engine alone.',
      published: 'none: LegoDNN has no service.',
      differs: 'goals of our own stand in the columns `goal…`.',
    },
  ],
  [
    'tasks',
    {
      title: 'Real networks through our pre-processing and decoding',
      asks: 'Whether the answers of original networks are as good as they should be; `expected` is what other code measured on pictures of the same kind.',
      published: 'the accuracies of the networks’ authors are on other, larger sets of pictures.',
      differs: 'few pictures: read differences below three points as noise.',
    },
  ],
  [
    'trainer',
    {
      title: 'Training steps',
      asks: 'A training step as one ONNX graph against a forward run, and a network trained from scratch.',
      published: 'none; where a row names PyTorch, that was measured on the same pictures and kind of machine.',
      differs: 'ONNX Runtime has no training operators in this build: gradients are ordinary nodes.',
    },
  ],
]

export function publishedFor(name: string): Published {
  const found = answers.find(([start]) => name.startsWith(start))
  if (!found) return { title: name, asks: '', published: 'none.', differs: 'there is nothing to compare with.' }
  const [start, published] = found
  const rest = name.slice(start.length).replace(/^-/, '')
  return rest === '' ? published : { ...published, title: `${published.title}: ${rest}` }
}
