#!/usr/bin/env node
console.log('blockscale')
