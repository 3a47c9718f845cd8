// SPDX-License-Identifier: Apache-2.0
// #/gateway: figures move when somebody reads, budgets are those of /metrics, plots can be
// heard, and an error is found by its id.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { ask, begin, good, refusal, says } from './own_gateway.mjs';

const part = (page, id) => page.getByTestId(id);
const text = (page, id) => part(page, id).textContent();
const view = (t, base = bed.main, options) => t.open(`${base}/#/gateway`, options);

// The first figure in a text; a dash is 0.
const figure = (s) => Number(/[\d,.]+/.exec(s)?.[0].replaceAll(',', '') ?? 0);

function bytesOf(s) {
    const m = /([\d.]+) ([KMGT]i)?B/.exec(s);
    assert(m, `"${s}" has no figure in bytes`);
    return Number(m[1]) * 1024 ** ' KMGT'.indexOf(m[2]?.[0] ?? ' ');
}

async function metrics(base) {
    const { doc } = await ask(base, '/metrics');
    return (name) => doc.split('\n').filter((l) => l.startsWith(`${name} `) || l.startsWith(`${name}{`))
        .reduce((n, l) => n + Number(l.slice(l.lastIndexOf(' ') + 1)), 0);
}

// Somebody who reads pieces of a disk until done() is called; they come again and again,
// so that some are in memory.
function reader(base, path, size, piece = 65536) {
    let isOn = true;
    const all = (async () => {
        for (let i = 0; isOn; i++) {
            const off = (i * piece * 7) % (size - piece);
            const r = await fetch(`${base}/disk/${path}`, { headers: { Range: `bytes=${off}-${off + piece - 1}` } });
            assert.equal(r.status, 206);
            await r.arrayBuffer();
            await new Promise((go) => setTimeout(go, 20));
        }
    })();
    return async () => {
        isOn = false;
        await all;
    };
}

testCase('gateway: requests, bytes out and in, cache and latency move while somebody reads', async (t) => {
    const own = await begin({ flags: ['--origin', `web=${bed.web}`, '--cache-size', '32M'] });
    const page = await view(t, own.url);
    await soon(async () => await text(page, 'plot-requests-requests') === '0', 'nobody but the page asks', 30000);
    assert.equal(figure(await text(page, 'plot-bytes-in-from-sources')), 0);
    assert.equal(await text(page, 'plot-hits-hits'), '–');
    const done = reader(own.url, 'web/slow.raw', 48 << 20);
    const moved = (id, what, most = Infinity) => soon(async () => {
        const s = await text(page, id);
        const n = figure(s);
        return n > 0 && n <= most;
    }, what, 30000);
    await moved('plot-requests-requests', 'requests a second');
    await moved('plot-bytes-out-to-clients', 'bytes out');
    await moved('plot-bytes-in-from-sources', 'bytes in');
    await moved('plot-hits-hits', 'the share of the cache', 100);
    await moved('plot-latency-half-within', 'half of the reads');
    await moved('plot-latency-95-%-within', '95 % of the reads');
    assert.match(await text(page, 'plot-hits-hits'), /^[<>]?[\d.]+ %$/);
    assert.match(await text(page, 'plot-latency-half-within'), /^<?[\d.]+ (ms|s)$/);
    await soon(async () => /[1-9][\d.]* req\/s · .*B\/s out/.test(await text(page, 'pulse')), 'the head says so, too');
    assert.equal(await text(page, 'now-open'), '1');
    await t.shot(page, 'gateway-read');
    await done();
    await soon(async () => await text(page, 'plot-requests-requests') === '0' &&
        figure(await text(page, 'plot-bytes-out-to-clients')) < 65536, 'and rest when nobody does', 30000);
    await page.context().close();
    await own.stop();
});

testCase('gateway: bytes a second are what was read, about', async (t) => {
    const own = await begin();
    const page = await view(t, own.url);
    await soon(async () => await text(page, 'plot-requests-requests') === '0', 'it has a sample before');
    const before = (await metrics(own.url))('platter_sent_bytes_total');
    const r = await fetch(`${own.url}/disk/lab/disk.raw`);
    assert.equal((await r.arrayBuffer()).byteLength, 256 << 20);
    const sent = (await metrics(own.url))('platter_sent_bytes_total') - before;
    assert(sent >= 256 << 20, `${sent}`);
    // The largest of the words that the plot has for it, over at least two seconds.
    const most = await soon(async () => {
        const words = await part(page, 'plot-bytes').getByRole('img').getAttribute('aria-label');
        const m = /out to clients .*? now, .*? to ([\d.]+ \w+)\/s lately/.exec(words);
        return m && bytesOf(m[1]) > 16 << 20 && bytesOf(m[1]);
    }, 'it went out', 30000);
    assert(most <= sent / 1.5, `${most} a second of ${sent}`);
    await page.context().close();
    await own.stop();
});

testCase('gateway: meters are the gateway\'s budgets and what is used of them', async (t) => {
    const own = await begin({ flags: ['--origin', `lab=${bed.folder}`, '--cache-size', '24M'] });
    await good(own.url, '/v1/info/lab/disk.raw');
    await (await fetch(`${own.url}/disk/lab/box.ova`)).arrayBuffer();
    const page = await view(t, own.url);
    for (const [id, value, budget] of [['meter-cache', 'platter_cache_bytes', 'platter_cache_budget_bytes'],
        ['meter-cache_reserved', 'platter_cache_reserved_bytes', 'platter_cache_budget_bytes'],
        ['meter-client_memory', 'platter_client_memory_bytes', 'platter_client_memory_budget_bytes']]) {
        await soon(async () => {
            const m = await metrics(own.url);
            const [used, , most] = (await text(page, id)).split(/ (of|·) /);
            const near = (s, n) => Math.abs(bytesOf(s) - n) <= 0.02 * n + 65536;
            return m(budget) > 0 && near(most, m(budget)) && near(used, m(value));
        }, id, 20000);
    }
    assert(bytesOf(await text(page, 'meter-cache')) > 1 << 20);
    assert.match(await text(page, 'meter-cache'), / of 24 MiB · [\d.]+ %$/);
    const meter = page.getByRole('meter', { name: 'Cache', exact: true });
    assert.equal(await meter.getAttribute('aria-valuemax'), String(24 << 20));
    assert.equal(await meter.getAttribute('aria-valuetext'), await text(page, 'meter-cache'));
    assert(!await part(page, 'meter-disk_cache').isVisible(), 'there is no disk cache');
    await page.context().close();
    await own.stop();
});

testCase('gateway: plots have their figures in words, and these change', async (t) => {
    const page = await view(t);
    for (const id of ['plot-requests', 'plot-bytes', 'plot-hits', 'plot-latency', 'plot-workers']) {
        const plot = part(page, id).getByRole('img');
        const title = await part(page, id).locator('h2').textContent();
        await soon(async () => / now(;|,|$)/.test(await plot.getAttribute('aria-label')), `${id} in words`, 20000);
        assert((await plot.getAttribute('aria-label')).startsWith(`${title}: `));
        await soon(() => plot.locator('canvas').count(), `${id} is drawn`);
    }
    const words = () => part(page, 'plot-bytes').getByRole('img').getAttribute('aria-label');
    const before = await words();
    const done = reader(bed.main, 'lab/disk.raw', 256 << 20);
    await soon(async () => await words() !== before, 'the words go with the figures', 20000);
    await done();
});

testCase('gateway: a plot says what it has where one points', async (t) => {
    const page = await view(t);
    const card = part(page, 'plot-workers');
    await soon(async () => /, .* lately/.test(await card.getByRole('img').getAttribute('aria-label')), 'it has samples', 20000);
    await card.scrollIntoViewIfNeeded();
    const box = await card.locator('.u-over').boundingBox();
    await soon(async () => { // the newest is at the right end
        await page.mouse.move(box.x + box.width - 2 - Math.random() * 3, box.y + box.height / 2);
        return /^at \d\d:\d\d:\d\d$/.test(await card.locator('.plot-when').textContent());
    }, 'a time');
    await page.mouse.move(0, 0);
    await soon(async () => await card.locator('.plot-when').textContent() === '', 'and now again');
});

testCase('gateway: an error of a moment ago is there with its id, and the id can be copied', async (t) => {
    t.allow(404);
    const page = await view(t, bed.main, { permissions: ['clipboard-read', 'clipboard-write'] });
    const path = `/v1/info/lab/none-${Date.now()}.raw`;
    const { status, doc } = await ask(bed.main, path);
    assert.equal(status, 404);
    const row = part(page, 'error-row').filter({ hasText: doc.request_id });
    await row.waitFor();
    const shown = await row.textContent();
    for (const word of ['404', 'GET', path.replace('/v1/info/', ''), doc.title, doc.detail ?? ''])
        assert(shown.includes(word), `"${shown}" has no ${word}`);
    assert.equal(await part(row, 'error-request-id').textContent(), doc.request_id);
    await part(row, 'copy-request-id').click();
    await soon(async () => await page.evaluate(() => navigator.clipboard.readText()) === doc.request_id, 'it is copied');
    await soon(async () => await part(row, 'copy-request-id').textContent() === 'Copied', 'and says so');
    await t.shot(page, 'gateway-errors');
});

testCase('gateway: an error that the page itself met is there with the id that was shown', async (t) => {
    t.allow(404);
    const page = await t.open(`${bed.main}/#/image/lab/none-of-these.raw`);
    const id = await part(page, 'problem').first().getByTestId('request-id').textContent();
    await page.goto(`${bed.main}/#/gateway`);
    await part(page, 'error-row').filter({ hasText: id }).waitFor();
});

testCase('gateway: rows are those of the API, newest first, and repeats are counted', async (t) => {
    const own = await begin();
    const page = await view(t, own.url);
    await part(page, 'no-errors').waitFor();
    for (const name of ['first', 'second', 'second', 'second'])
        await ask(own.url, `/v1/info/lab/${name}.raw`);
    const rows = part(page, 'error-row');
    const same = await soon(async () => {
        const api = await good(own.url, '/v1/errors');
        const ids = await part(page, 'error-request-id').allTextContents();
        return JSON.stringify(ids) === JSON.stringify(api.map((r) => r.request_id)) && api.length && api;
    }, 'the same ids in the same order', 20000);
    assert(same[0].path.endsWith('second.raw') && same.at(-1).path.endsWith('first.raw'), JSON.stringify(same));
    for (const [i, r] of same.entries())
        if (r.count > 1)
            await soon(async () => (await rows.nth(i).textContent()).includes(`×${r.count}`), `×${r.count}`);
    assert.equal(same.reduce((n, r) => n + (r.count ?? 1), 0), 4, JSON.stringify(same));
    await page.context().close();
    await own.stop();
});

testCase('gateway: what was refused over a budget is counted', async (t) => {
    const own = await begin();
    const page = await view(t, own.url);
    await soon(async () => await text(page, 'now-active') !== '–', 'figures');
    assert.equal(await part(page, 'refused').locator('dt').count(), 0);
    const ranges = Array.from({ length: 2000 }, (_, i) => `${i * 4096}-${i * 4096}`).join();
    const r = await ask(own.url, '/disk/lab/disk.raw', { headers: { Range: `bytes=${ranges}` } });
    const refused = (await metrics(own.url))('platter_refused_total');
    assert(refused > 0, `${r.status}: nothing was refused`);
    await soon(async () => {
        const values = await part(page, 'refused').locator('dd').allTextContents();
        return values.reduce((n, v) => n + figure(v), 0) === refused;
    }, 'it is told', 20000);
    await page.context().close();
    await own.stop();
});

testCase('gateway: who may not see the errors of others is told so, and sees the rest', async (t) => {
    t.allow(401, 403);
    const page = await view(t, bed.closed);
    await page.locator('#token-dialog').waitFor();
    await part(page, 'token-input').fill(bed.tokens.looker);
    await part(page, 'token-use').click();
    const words = await refusal(bed.closed, '/v1/errors', { token: bed.tokens.looker });
    assert.equal(words.status, 403);
    await says(part(page, 'problem'), words);
    await soon(async () => await text(page, 'now-active') !== '–', 'figures come all the same');
    // It does not ask for what it may not have over and over.
    const asked = [];
    page.on('request', (r) => asked.push(new URL(r.url()).pathname));
    await soon(() => asked.filter((p) => p === '/metrics').length >= 4, 'time passes', 30000);
    assert(!asked.includes('/v1/errors'));
});

testCase('gateway: mirrors by state, and the ways from here', async (t) => {
    const page = await view(t, bed.edge);
    await soon(async () => {
        const n = (await good(bed.edge, '/v1/mirrors')).length;
        return await text(page, 'now-mirrors') === String(n);
    }, 'as many as there are');
    const note = await part(page, 'now-mirrors').locator('+ dd').textContent();
    assert.match(note, /\d+ mirroring, \d+ complete, \d+ paused, \d+ failed/);
    await page.locator('main').getByRole('link', { name: 'Mirrors' }).click();
    await part(page, 'mirrors').waitFor();
});

await run();
