import type { Graph } from '../graph.ts'

/** Gives every node a name of its own; names of values are what people know, so they stay. */
export function nameNodes(graph: Graph): Graph {
  const taken = new Set<string>()
  // Names that are given once are kept; the others get a number.
  const nodes = graph.nodes.map((node) => {
    const wish = node.name || node.outputs.find((output) => output !== '') || node.op
    let name = wish
    for (let count = 1; taken.has(name); count++) name = `${wish}_${count}`
    taken.add(name)
    return name === node.name ? node : { ...node, name }
  })
  return { ...graph, nodes }
}
