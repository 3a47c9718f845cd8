// SPDX-License-Identifier: Apache-2.0
// What the cases about images share: the gateway asked without the page, the folder of
// its origin "lab" as other programs see it, and parts of the page by their test ids.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { assert, bed, soon } from './harness.mjs';

export const by = (at, id) => at.locator(`[data-testid="${id}"]`);
export const exec = promisify(execFile);
export const MIB = 1 << 20;

// An answer as JSON; path begins with /v1.
export async function ask(path, { gate = bed.main, ...options } = {}) {
    const response = await fetch(gate + path, options);
    assert(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
    return response.status === 204 ? null : response.json();
}

export const encode = (path) => path.split('/').map(encodeURIComponent).join('/');

// The address of an image's view; selectors: {member: ...}.
export function viewOf(path, selectors = {}, gate = bed.main) {
    const query = Object.entries(selectors).map(([k, v]) => `${k}=${encodeURIComponent(v)}`);
    return `${gate}/#/image/${encode(path)}${query.length ? `?${query.join('&')}` : ''}`;
}

// Bytes of a file of the folder "lab".
export async function bytesOf(name, off, length) {
    const file = await open(`${bed.www}/${name}`);
    try {
        return (await file.read(Buffer.alloc(length), 0, length, off)).buffer;
    } finally {
        await file.close();
    }
}

export async function digestOf(file, algorithm = 'sha256') {
    const hash = createHash(algorithm), from = await open(file);
    try {
        for await (const chunk of from.createReadStream())
            hash.update(chunk);
    } finally {
        await from.close().catch(() => {});
    }
    return hash.digest('hex');
}

// Bytes of a guest disk, as another client reads them.
export async function read(ref, off, length) {
    const response = await fetch(`${bed.main}/disk/${ref}`, { headers: { Range: `bytes=${off}-${off + length - 1}` } });
    assert.equal(response.status, 206, ref);
    return Buffer.from(await response.arrayBuffer());
}

// Somebody who reads a disk and takes their time; call what it gives to make them leave.
export async function linger(ref) {
    const leaving = new AbortController();
    const response = await fetch(`${bed.main}/disk/${ref}`, { signal: leaving.signal });
    await response.body.getReader().read();
    return () => leaving.abort();
}

export const text = async (locator) => (await locator.textContent())?.trim();

// Until a part says so: its text.
export const says = (locator, what, ms) =>
    soon(async () => {
        const now = await text(locator);
        assert.match(now, what);
        return now;
    }, `it says ${what}`, ms);

// The page's own words for figures: what they are for is the cases' business.
export const figure = (page, kind, ...values) =>
    page.evaluate(async ([k, v]) => (await import('/web/format.js'))[k](...v), [kind, values]);

// A problem on the page says what the answer said: title, detail, layer, status, id.
export async function sameProblem(box, answer) {
    const doc = await answer.json();
    assert.equal(doc.status, answer.status());
    const shown = await text(box);
    for (const part of [doc.title, doc.detail, doc.layer && `layer ${doc.layer}`, `status ${doc.status}`])
        assert(!part || shown.includes(part), `${part} is not in: ${shown}`);
    assert.equal(await text(by(box, 'request-id')), doc.request_id);
    assert.equal(answer.headers()['x-request-id'], doc.request_id);
    return doc;
}
