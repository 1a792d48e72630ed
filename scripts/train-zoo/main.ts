// Makes the bundled models again from nothing: draws the pictures, trains, measures, writes model-zoo/<id>/.
//
//   npm run train:zoo              all of them
//   npm run train:zoo road-signs   one
import { trainRoadSigns } from './road-signs.ts'
import { trainSignDetector } from './sign-detector.ts'
import { trainUpscaler } from './upscaler.ts'

const recipes: Readonly<Record<string, () => Promise<void>>> = {
  'road-signs': trainRoadSigns,
  'sign-detector': trainSignDetector,
  'upscaler-x2': trainUpscaler,
}

const asked = process.argv.slice(2)
const unknown = asked.filter((id) => !recipes[id])
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(', ')}; there are ${Object.keys(recipes).join(', ')}`)
  process.exit(2)
}
for (const id of asked.length > 0 ? asked : Object.keys(recipes)) await recipes[id]!()
