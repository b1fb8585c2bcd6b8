export { binary, end, freePort, RunningMesh, type MeshOptions } from './mesh';
export { makeOrigin } from './origin';
export { MeshProxy } from './proxy';
