// What every program here has in common: JSON in, JSON out, one call a line.
//
//   in   {"operation": "seal", "plaintext": "00ff"}
//   out  {"result": {"ciphertext": "..."}}   or   {"error": "Error: why not"}
//
// Bytes are hexadecimal in both directions. A program ends when its standard input does.
import { createInterface } from "node:readline";

/** The bytes of a hexadecimal string, in a buffer of their own: some packages look at `.buffer`. */
export const bytes = (hex) => new Uint8Array(Buffer.from(hex, "hex"));

export const concat = (...parts) => new Uint8Array(Buffer.concat(parts));

// A function, not an arrow: `this[key]` is the value before Buffer's own toJSON saw it.
function bytesAsHex(key, value) {
  return this[key] instanceof Uint8Array ? Buffer.from(this[key]).toString("hex") : value;
}

/** Answer each line with the operation it names, until there are no more. */
export async function answer(operations) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { operation, ...parameters } = JSON.parse(line);
    let outcome;
    try {
      outcome = { result: await operations[operation](parameters) };
    } catch (error) {
      outcome = { error: `${error.name}: ${error.message}` };
    }
    process.stdout.write(JSON.stringify(outcome, bytesAsHex) + "\n");
  }
  process.exit();
}
