export type { Block, Descendant, Samples } from './block.ts'
export { analyseChannels, type ChannelGroup, type Channels } from './channels.ts'
export { leastWeightsRemoved } from './descendants/l1.ts'
export { analysePruning, type PruneAnalysis, pruneTo } from './descendants/prune.ts'
export { type IntegerSums, integerSums } from './integer-weights.ts'
export { type LinearAlgebra, openLinearAlgebra } from './linear.ts'
export {
  defaultRecipes,
  type KnownDescendant,
  type Made,
  type MenuOptions,
  makeDescendants,
  type Recipe,
  recipes,
  sampleBytes,
} from './menu.ts'
export { type ChosenBlock, type PolishedLayer, type PolishOptions, polish } from './polish.ts'
export { rangesAt, searchRanges } from './range-search.ts'
export { observe, type QuantisationRange } from './ranges.ts'
export { nominalOf, record, upTo } from './record.ts'
export { type Recovered, type RecoverOptions, recoverCombination } from './recover.ts'
export { type Verdict, verify } from './verify.ts'
