// Validates AsyncAPI documents: node validate.mjs FILE...
// Prints every error and exits 1 if there is one; exits 2 without a file to check.
import { readFile } from 'node:fs/promises';

import { Parser } from '@asyncapi/parser';

const ERROR = 0;

async function errorsIn(file) {
  const { diagnostics } = await new Parser().parse(await readFile(file, 'utf8'), { source: file });
  return diagnostics.filter(({ severity }) => severity === ERROR);
}

function print(file, { path, message, range }) {
  console.error(`${file}:${range.start.line + 1}: ${path.join('.') || 'document'}: ${message}`);
}

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('usage: node validate.mjs FILE...');
  process.exit(2);
}

let failed = 0;
for (const file of files) {
  const errors = await errorsIn(file);
  errors.forEach((error) => print(file, error));
  failed += errors.length > 0;
}
console.log(`${files.length - failed} of ${files.length} AsyncAPI documents are valid`);
process.exit(failed ? 1 : 0);
