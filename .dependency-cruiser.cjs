// The rooms of src/ and their direction. Each room may use the rooms listed for it, and only through their index.ts.
const rooms = {
  base: [],
  tensor: ['base'],
  onnx: ['base', 'tensor'],
  engine: ['base', 'tensor'],
  tasks: ['base', 'tensor'],
  trainer: ['base', 'tensor', 'onnx', 'engine'],
  blocks: ['base', 'tensor', 'onnx', 'engine', 'trainer'],
  zoo: ['base', 'tensor', 'onnx', 'tasks', 'blocks'],
  optimizer: ['base'],
  profiles: ['base', 'tensor', 'onnx', 'engine', 'tasks', 'blocks', 'zoo'],
  runtime: ['base', 'tensor', 'onnx', 'engine', 'tasks', 'zoo', 'profiles', 'optimizer'],
  pipeline: ['base', 'tensor', 'onnx', 'engine', 'tasks', 'blocks', 'zoo', 'profiles'],
  server: ['base', 'tensor', 'tasks', 'zoo', 'profiles', 'optimizer', 'runtime', 'pipeline'],
  cli: [
    'base',
    'tensor',
    'onnx',
    'engine',
    'tasks',
    'blocks',
    'trainer',
    'zoo',
    'profiles',
    'optimizer',
    'runtime',
    'pipeline',
    'server',
  ],
}
const owners = {
  sharp: 'tensor',
  protobufjs: 'onnx',
  'onnxruntime-node': 'engine',
  'better-sqlite3': 'profiles',
  'glpk.js': 'optimizer',
  express: 'server',
}

module.exports = {
  forbidden: [
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unknown', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...Object.entries(rooms).map(([room, uses]) => ({
      name: `${room}-direction`,
      severity: 'error',
      from: { path: `^src/${room}/` },
      to: { path: '^src/', pathNot: `^src/(${[room, ...uses].join('|')})/` },
    })),
    ...Object.keys(rooms).map((room) => ({
      name: `${room}-by-its-door`,
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/${room}/` },
      to: { path: `^src/${room}/`, pathNot: `^src/${room}/index\\.ts$` },
    })),
    ...Object.entries(owners).map(([library, room]) => ({
      name: `${library}-only-in-${room}`,
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/${room}/` },
      to: { path: `node_modules/(@types/)?${library.replace('.', '\\.')}/` },
    })),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      extensions: ['.ts', '.js', '.json'],
      conditionNames: ['import', 'node', 'default'],
    },
  },
}
