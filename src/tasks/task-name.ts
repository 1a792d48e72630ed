export const taskNames = [
  'classification',
  'detection',
  'face-detection',
  'segmentation',
  'super-resolution',
  'generic',
] as const
export type TaskName = (typeof taskNames)[number]
