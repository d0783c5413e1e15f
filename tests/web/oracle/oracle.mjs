// Say which redirect targets leave the origin, by the URL parser that browsers have.
//
// Reads a JSON array of strings, writes the JSON array of those that lead elsewhere.
// A target is tried as it is, and once more as what the parser made of it, which is
// what a page that passes on `location.pathname` would send.

import { readFileSync } from "node:fs";

const ORIGIN = "https://app.example";
const BASES = [`${ORIGIN}/`, `${ORIGIN}/auth/callback?code=c&state=s`, `${ORIGIN}/a/b/c/`];

function staysHere(target, base) {
  try {
    const url = new URL(target, base);
    if (url.origin !== ORIGIN || url.username || url.password) return false;
    return new URL(url.pathname + url.search + url.hash, base).origin === ORIGIN;
  } catch {
    return false;
  }
}

const targets = JSON.parse(readFileSync(0, "utf8"));
const leaving = targets.filter((target) => !BASES.every((base) => staysHere(target, base)));
process.stdout.write(JSON.stringify(leaving));
