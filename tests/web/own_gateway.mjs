// SPDX-License-Identifier: Apache-2.0
// The API by itself, to compare the page with; and gateways that a case has for itself.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { assert, bed } from './harness.mjs';

// What the gateway answers a request of this process: {status, headers, doc}.  doc is the
// body, parsed where it is JSON.  body: an object, sent as JSON.
export async function ask(base, path, { method = 'GET', body, token, headers = {} } = {}) {
    const r = await fetch(base + path, {
        method, body: body === undefined ? undefined : JSON.stringify(body),
        headers: { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}),
            ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
    });
    const text = await r.text();
    let doc = text;
    try {
        doc = JSON.parse(text);
    } catch { /* text, then */ }
    return { status: r.status, headers: r.headers, doc };
}

// The same, of what is meant to succeed: the body.
export async function good(base, path, options) {
    const r = await ask(base, path, options);
    assert(r.status < 300, `${path}: ${r.status} ${JSON.stringify(r.doc).slice(0, 400)}`);
    return r.doc;
}

// The words in which the gateway refuses a request, as the page puts them together.
export async function refusal(base, path, options) {
    const { status, doc } = await ask(base, path, options);
    assert(status >= 400 && doc.title, `${path} was not refused: ${status} ${JSON.stringify(doc).slice(0, 400)}`);
    return { status, text: doc.detail ? `${doc.title}: ${doc.detail}` : doc.title };
}

// That a problem on the page says what the API said of it: words, status, and the id of a
// request, which is another one than ours.
export async function says(problem, { status, text }) {
    await problem.waitFor();
    const shown = await problem.textContent();
    assert(shown.startsWith(text), `"${shown}" is not "${text}"`);
    assert(shown.includes(`status ${status}`), shown);
    assert.match(await problem.getByTestId('request-id').textContent(), /^[\w-]{8,}$/);
}

const running = new Set();
process.on('exit', () => running.forEach((p) => p.kill('SIGKILL')));

// A gateway of one's own, over the bed's images unless flags say otherwise; `port`: where
// one was before.  stop() ends it and fails when it did not end well.
export async function begin({ port = 0, flags = ['--origin', `lab=${bed.folder}`] } = {}) {
    const proc = spawn(join(bed.bin, 'platterd'), ['--listen', `127.0.0.1:${port}`, ...flags],
        { stdio: ['ignore', 'ignore', 'pipe'] });
    running.add(proc);
    const ended = once(proc, 'exit');
    let log = '';
    const port_ = await new Promise((good, bad) => {
        const late = setTimeout(() => bad(new Error(`platterd did not start: ${log}`)), 30000);
        ended.then(([code]) => bad(new Error(`platterd ended with ${code}: ${log}`)));
        proc.stderr.on('data', (more) => {
            log += more;
            const m = /event=listening address=127\.0\.0\.1:(\d+)/.exec(log);
            if (m) {
                clearTimeout(late);
                good(Number(m[1]));
            }
        });
    });
    return {
        url: `http://127.0.0.1:${port_}`, port: port_,
        async stop() {
            proc.kill('SIGTERM');
            const [code, signal] = await ended;
            running.delete(proc);
            assert(!/Sanitizer|runtime error/.test(log), log.slice(-4000));
            assert.equal(code, 0, `${signal} ${log.slice(-2000)}`);
        },
    };
}

// A folder for the state of such a gateway; it goes with the bed.
export const stateFolder = () => mkdtempSync(join(bed.tmp, 'state-own-'));
