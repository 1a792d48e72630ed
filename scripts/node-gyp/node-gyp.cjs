#!/usr/bin/env node
// Stands in node_modules/.bin, where install scripts find it before npm's own node-gyp. It is that same program, told to
// use the headers that were installed beside this Node where they exist, so that compiling better-sqlite3 downloads nothing.
const { existsSync } = require('node:fs')
const { dirname, join } = require('node:path')

const prefix = dirname(dirname(process.execPath))
if (!process.env.npm_config_nodedir && existsSync(join(prefix, 'include', 'node', 'node.h'))) {
  process.env.npm_config_nodedir = prefix
}
require(join(dirname(dirname(process.env.npm_execpath)), 'node_modules', 'node-gyp', 'bin', 'node-gyp.js'))
