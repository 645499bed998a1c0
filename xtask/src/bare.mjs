// Runs a build of tests for wasm32-unknown-unknown: node bare.mjs MODULE. The module gets no imports: what needs a host does
// not even start.
import { readFileSync } from "node:fs";

Error.stackTraceLimit = 100;
const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  const names = imports.map(({ module, name }) => `${module}.${name}`);
  console.error(`the tests for bare WebAssembly import ${names.join(", ")}: they must do without a host`);
  process.exit(1);
}
const { exports } = new WebAssembly.Instance(module, {});
exports.listen();
try {
  const failed = exports.main(0, 0);
  if (failed !== 0 || !exports.ran()) {
    console.error(`the tests for bare WebAssembly did not run (main returned ${failed})`);
    process.exit(1);
  }
} catch (trap) {
  // A panic is a trap here, at the first test that fails. The frames of the package name it.
  const said = Buffer.from(exports.memory.buffer, exports.said(), exports.said_bytes()).toString();
  const frames = trap.stack.split("\n").filter((line) => /\d+(policy|config)/.test(line));
  console.error([said, trap.message, ...frames].join("\n"));
  process.exit(1);
}
