// SPDX-License-Identifier: Apache-2.0
// Cases in a real browser.  A file registers them with testCase("a sentence", fn) and ends
// with `await run()`; it prints what tests/support/live.py prints.
//
// fn gets a Case: open(url, options) gives a Playwright page in a context of its own.  The
// case fails when any of its pages writes an error to the console, throws, violates its
// Content-Security-Policy, opens a dialog, talks to another host, crashes, or is answered
// with a status of 400 or more that the case did not announce with allow(...).
import assert from 'node:assert/strict';
import { accessSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium } from 'playwright-core';

export { assert };
export const bed = JSON.parse(process.env.PLATTER_WEB ?? '{}');
const shots = process.env.PLATTER_SHOTS ?? bed.shots ?? 'build/screenshots';
const CASE_SECONDS = 180; // a sanitizer's gateway on a busy machine
const STEP_MS = 30000;
const registered = [];

export function testCase(sentence, fn) {
    registered.push({ sentence, fn });
}

function find(program) {
    for (const folder of process.env.PATH.split(delimiter)) {
        try {
            accessSync(join(folder, program));
            return join(folder, program);
        } catch { /* the next one */ }
    }
    throw new Error(`no ${program} on PATH`);
}

function launch() {
    return chromium.launch({
        executablePath: process.env.PLATTER_CHROMIUM ?? find('chromium'),
        args: [
            // Its own sandbox wants not to be root, and a container's /dev/shm is small.
            ...(process.getuid() === 0 ? ['--no-sandbox'] : []), '--disable-dev-shm-usage',
            // No name leads anywhere: nothing of this leaves the machine.
            '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
            '--font-render-hinting=none', '--force-color-profile=srgb',
        ],
    });
}

// Until probe() gives something true: that.  What it threw or gave last is the reason.
export async function soon(probe, what, ms = STEP_MS) {
    const end = Date.now() + ms;
    let last;
    for (;;) {
        try {
            last = await probe();
            if (last)
                return last;
        } catch (e) {
            last = e;
        }
        if (Date.now() > end)
            throw new Error(`not within ${ms} ms: ${what} (${last instanceof Error ? last.message : JSON.stringify(last)})`);
        await new Promise((r) => setTimeout(r, 50));
    }
}

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

class Case {
    #browser;
    #pages = new Map(); // page -> what it did wrong
    #allowed = [];
    sentence;

    constructor(browser, sentence) {
        this.#browser = browser;
        this.sentence = sentence;
    }

    // Faults that this case causes on purpose: numbers are statuses, expressions are
    // matched with the fault's text.
    allow(...what) {
        this.#allowed.push(...what.map((w) =>
            typeof w === 'number' ? new RegExp(`^status ${w} `) : w));
    }

    // A page at url.  options: those of Playwright's newContext, and init: functions and
    // texts for addInitScript, route: async (context) before anything is loaded.
    async open(url, { init = [], route, ...options } = {}) {
        const context = await this.#browser.newContext({
            viewport: { width: 1280, height: 800 }, locale: 'en-GB', timezoneId: 'UTC',
            acceptDownloads: true, ...options,
        });
        context.setDefaultTimeout(STEP_MS);
        const faults = [];
        await context.exposeBinding('__violation', (_, text) => faults.push(text));
        await context.addInitScript(() => {
            addEventListener('securitypolicyviolation', (e) => window.__violation(
                `policy ${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
        });
        for (const script of init)
            await context.addInitScript(script);
        if (route)
            await route(context);
        const host = url ? new URL(url).host : '';
        context.on('page', (page) => this.#guard(page, host, faults));
        const page = await context.newPage();
        if (url)
            await page.goto(url);
        return page;
    }

    #guard(page, host, faults) {
        this.#pages.set(page, faults);
        page.on('console', (m) => {
            // What it says of answers is told below, with the address.
            if (m.type() === 'error' && !/^Failed to load resource/.test(m.text()))
                faults.push(`console ${m.text()} (${m.location().url}:${m.location().lineNumber})`);
        });
        page.on('pageerror', (e) => faults.push(`exception ${e.stack ?? e}`));
        page.on('crash', () => faults.push('crash'));
        page.on('dialog', (d) => {
            faults.push(`dialog ${d.type()} ${d.message()}`);
            d.dismiss().catch(() => {});
        });
        page.on('request', (r) => {
            const at = new URL(r.url());
            if (host && /^(http|ws)/.test(at.protocol) && at.host !== host)
                faults.push(`host ${r.url()}`);
        });
        page.on('response', (r) => {
            if (r.status() >= 400)
                faults.push(`status ${r.status()} ${r.request().method()} ${r.url()}`);
        });
        page.on('requestfailed', (r) => {
            // Aborted: by the page itself, or by leaving it.
            if (r.failure()?.errorText !== 'net::ERR_ABORTED')
                faults.push(`failed ${r.failure()?.errorText} ${r.url()}`);
        });
    }

    // What a page did wrong so far and was not announced; it is forgiven with that.
    faults(page) {
        return this.#pages.get(page).splice(0).filter((f) => !this.#allowed.some((a) => a.test(f)));
    }

    // A picture among the artefacts of the run; of the whole height unless told.
    async shot(page, name, options = {}) {
        mkdirSync(shots, { recursive: true });
        await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true,
            animations: 'disabled', caret: 'hide', ...options });
    }

    // Playwright's pages, for a picture of a failure.
    pages() {
        return [...this.#pages.keys()].filter((p) => !p.isClosed());
    }

    async end() {
        const found = new Set();
        for (const page of this.#pages.keys())
            this.faults(page).forEach((f) => found.add(f));
        assert.equal(found.size, 0, [...found].slice(0, 8).join('\n'));
    }

    async close() {
        const contexts = new Set([...this.#pages.keys()].map((p) => p.context()));
        for (const context of contexts)
            await context.close().catch(() => {});
    }
}

async function within(seconds, promise) {
    let timer;
    const late = new Promise((_, no) => {
        timer = setTimeout(() => no(new Error(`it takes more than ${seconds} s`)), seconds * 1000);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

export async function run() {
    const only = new RegExp(process.env.PLATTER_CASE ?? '');
    let passed = 0, failed = 0;
    let browser = await launch();
    for (const { sentence, fn } of registered.filter((c) => only.test(c.sentence))) {
        const t = new Case(browser, sentence);
        try {
            await within(CASE_SECONDS, (async () => {
                await fn(t);
                await t.end();
            })());
            console.log(`ok - ${sentence}`);
            passed++;
        } catch (e) {
            const text = `${e.stack ?? e}`.slice(0, 3000);
            console.log(`not ok - ${sentence}\n    ${text.replaceAll('\n', '\n    ')}`);
            for (const [i, page] of t.pages().entries()) {
                console.log(`    at ${page.url()}`);
                for (const f of t.faults(page).slice(0, 8))
                    console.log(`    ${f.replaceAll('\n', '\n    ')}`);
                const name = `failed-${sentence.replace(/[^a-z0-9]+/gi, '-').slice(0, 60)}-${i}`;
                await t.shot(page, name, { timeout: 5000 }).catch(() => {});
            }
            failed++;
        }
        await within(20, t.close()).catch(() => {});
        if (!browser.isConnected())
            browser = await launch();
    }
    await within(20, browser.close()).catch(() => {});
    console.log(`# ${passed} passed, ${failed} failed, 0 skipped`);
    process.exit(failed ? 1 : 0);
}
