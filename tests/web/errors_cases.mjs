// SPDX-License-Identifier: Apache-2.0
// What goes wrong is told where it was asked for, in the API's words, with the id of the
// request; and what can come back does.  Errors are real ones; only a network that is
// down, a 500 and a 503 are made up.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { begin, good, refusal, says, stateFolder } from './own_gateway.mjs';

const main = bed.main;
const part = (at, id) => at.getByTestId(id);
const problem = (at) => part(at, 'problem').first();
const card = (page, heading) => page.locator('section.card').filter({ has: page.getByRole('heading', { name: heading }) });

testCase('errors: the description of the API opens in a browser, and what is not there is said', async (t) => {
    t.allow(404);
    const page = await t.open(main + '/openapi.json');
    assert.match(await page.textContent('body'), /"openapi": "3/);
    await page.goto(main + '/nothing');
    assert.match(await page.textContent('body'), /no such resource/);
});

testCase('errors: an image that cannot be opened: why, at which layer, and the request', async (t) => {
    t.allow(400, 403, 404, 502, 504);
    for (const [what, layer] of [['lab/none.raw'], ['lab/broken.qcow2', 'qcow2'], ['nobody/x.raw'], ['gone/x.raw'],
        ['lab/disk.raw?partition=9'], ['lab/top.qcow2?snapshot=none'], ['lab/two.tar?member=none'], ['lab/notes.txt?partition=1']]) {
        const words = await refusal(main, `/v1/info/${what}`);
        const page = await t.open(`${main}/#/image/${what}`);
        await says(problem(page), words);
        if (layer)
            assert.match(await problem(page).textContent(), new RegExp(`layer ${layer}`));
        assert.equal(await part(page, 'map').count(), 0);
        if (what.includes('broken'))
            await t.shot(page, 'errors-broken');
        await page.context().close();
    }
});

testCase('errors: "Try again" tries again', async (t) => {
    t.allow(404);
    const { linkSync } = await import('node:fs');
    const late = `${bed.folder}/late.raw`;
    const page = await t.open(`${main}/#/image/lab/late.raw`);
    await says(problem(page), await refusal(main, '/v1/info/lab/late.raw'));
    linkSync(`${bed.folder}/one.raw`, late); // and stays: other cases' lists have it
    await part(page, 'again').click();
    await part(page, 'map').waitFor();
    assert.equal(await part(page, 'problem').count(), 0);
});

testCase('errors: an image that cannot be added is refused where it was asked for', async (t) => {
    t.allow(400, 404, 409, 502);
    await good(main, '/v1/info/lab/one.raw');
    const page = await t.open(`${main}/#/`);
    const trial = async (file, name, words) => {
        await part(page, 'add-path').fill(file);
        await part(page, 'add-name').fill(name);
        await part(page, 'add-open').click();
        await soon(async () => (await problem(part(page, 'add-result')).textContent()).startsWith(words.text), words.text);
        await says(problem(part(page, 'add-result')), words);
        assert.equal(await part(page, 'add-path').inputValue(), file);
    };
    await trial('none.raw', '', await refusal(main, '/v1/info/lab/none.raw'));
    await trial('broken.qcow2', '', await refusal(main, '/v1/info/lab/broken.qcow2'));
    const entry = { name: 'a/b', source: 'lab/one.raw' };
    await trial('one.raw', 'a/b', await refusal(main, '/v1/images', { method: 'POST', body: entry }));
    await trial('one.raw', 'golden', await refusal(main, '/v1/images', { method: 'POST', body: { ...entry, name: 'golden' } }));
});

testCase('errors: a name that somebody else has forgotten meanwhile, and that is said', async (t) => {
    t.allow(404);
    await good(main, '/v1/images', { method: 'POST', body: { name: 'passing', source: 'lab/one.raw' } });
    const page = await t.open(`${main}/#/image/passing`);
    await part(page, 'forget').click();
    await good(main, '/v1/images/passing', { method: 'DELETE' });
    const words = await refusal(main, '/v1/images/passing', { method: 'DELETE' });
    await part(page, 'forget-yes').click();
    await says(problem(page), words);
    assert(await part(page, 'map').isVisible());
});

testCase('errors: a mirror that is not there', async (t) => {
    t.allow(404);
    const page = await t.open(`${bed.edge}/#/mirrors/none`);
    await says(problem(page), await refusal(bed.edge, '/v1/mirrors/none'));
});

testCase('errors: what the source fails at while it is read is told at each part', async (t) => {
    t.allow(404, 502, 503, 504);
    const { cpSync, rmSync } = await import('node:fs');
    const file = `${bed.folder}/leaves.qcow2`;
    cpSync(`${bed.folder}/compressed.qcow2`, file);
    const own = await begin({ flags: ['--origin', `web=${bed.web}`, '--revalidate', '0', '--deadline', '2'] });
    const page = await t.open(`${own.url}/#/image/web/leaves.qcow2`);
    await part(page, 'hex').locator('tbody tr').first().waitFor();
    rmSync(file); // now its source is gone
    await part(page, 'hex-offset').fill('200M');
    await part(page, 'hex-go').click();
    await says(part(page.locator('#bytes'), 'problem'), await refusal(own.url, '/v1/info/web/leaves.qcow2'));
    await part(page, 'checksum').click();
    const shown = part(part(page, 'checksum-result'), 'problem');
    await shown.waitFor();
    assert.match(await shown.textContent(), /status \d{3}|request /);
    await page.context().close();
    await own.stop();
});

// Each endpoint that a view asks: [view, address of the API, where the problem is shown,
// whether it is asked again without a click].
const WAYS = [
    ['#/', '/v1/images?**', (page) => card(page, 'Images of this gateway'), true],
    ['#/', '/v1/origins', (page) => page.locator('main')],
    ['#/image/lab/disk.raw', '/v1/info/lab/**', (page) => page.locator('main')],
    ['#/image/lab/disk.raw', '/v1/partitions/lab/**', (page) => card(page, 'Partitions')],
    ['#/image/lab/top.qcow2', '/v1/snapshots/lab/**', (page) => card(page, 'Snapshots')],
    ['#/image/lab/box.ova', '/v1/members/lab/**', (page) => card(page, 'Files of the archive')],
    ['#/image/lab/disk.raw', /\/v1\/extents\/[^?]*\?(?!.*context=cache)/, (page) => page.locator('.map-card'), true],
    ['#/image/lab/disk.raw', '/disk/lab/**', (page) => page.locator('#bytes')],
    ['#/mirrors', '/v1/mirrors?**', (page) => card(page, 'Kept here'), true],
    ['#/mirrors/none', '/v1/mirrors/none/events', (page) => page.locator('main')],
    ['#/gateway', '/v1/errors', (page) => card(page, 'Recent errors'), true],
];
const match = (way) => (typeof way === 'string' ? main + way : way);

const documentOf = (status, title, detail) => ({ status, headers: {
    'Content-Type': 'application/problem+json', 'X-Request-Id': `made-up-${status}`,
    ...(status === 503 ? { 'Retry-After': '7' } : {}) },
body: JSON.stringify({ type: '/problems/made-up', title, detail, status, request_id: `made-up-${status}` }) });

testCase('errors: 500 and 503 at each endpoint are told at their place, with the request id', async (t) => {
    t.allow(500, 503);
    for (const [i, [view, way, place]] of WAYS.entries()) {
        const [status, title] = i % 2 ? [503, 'at capacity'] : [500, 'internal error'];
        const page = await t.open(`${main}/${view}`, { route: (context) =>
            context.route(match(way), (route) => route.fulfill(documentOf(status, title, `of ${i} <b>x</b>`))) });
        const shown = part(place(page), 'problem').first();
        await says(shown, { status, text: `${title}: of ${i} <b>x</b>` }).catch((e) => assert.fail(`${way}: ${e.message}`));
        assert.equal(await part(shown, 'request-id').textContent(), `made-up-${status}`);
        await page.context().close();
    }
});

testCase('errors: a network that is down is told at each place, and is no dead end', async (t) => {
    t.allow(/^failed net::ERR_INTERNET_DISCONNECTED/);
    for (const [view, way, place, isAskedAgain] of WAYS) {
        const page = await t.open(`${main}/${view}`, { route: (context) =>
            context.route(match(way), (route) => route.abort('internetdisconnected')) });
        const shown = part(place(page), 'problem').first();
        await shown.waitFor();
        assert.match(await shown.textContent(), /^the gateway does not answer/, String(way));
        await page.context().unroute(match(way));
        if (view === '#/mirrors/none') {
            await page.context().close();
            continue; // there it is, and it is not there
        }
        if (!isAskedAgain)
            await part(shown, 'again').click();
        await soon(async () => await part(place(page), 'problem').count() === 0, `${way} comes back`, 20000);
        await page.context().close();
    }
});

testCase('errors: an answer that is not of the gateway is told by what it has', async (t) => {
    t.allow(502);
    const page = await t.open(`${main}/#/`, { route: (context) => context.route(`${main}/v1/images?**`, (route) =>
        route.fulfill({ status: 502, contentType: 'text/html', body: '<h1>proxy</h1><script>alert(1)</script>' })) });
    await problem(page).waitFor();
    assert.match(await problem(page).textContent(), /^Bad Gateway.*status 502/);
});

testCase('errors: the jobs of an image tell why they ended', async (t) => {
    t.allow(500, 503);
    const page = await t.open(`${main}/#/image/lab/base.qcow2`);
    await part(page, 'check').waitFor();
    for (const job of ['check', 'checksum']) {
        await page.context().route(`${main}/v1/${job}/**`, (route) => route.fulfill(documentOf(503, 'at capacity', 'later')));
        await part(page, job).click();
        await says(part(part(page, `${job}-result`), 'problem'), { status: 503, text: 'at capacity: later' });
        await page.context().unroute(`${main}/v1/${job}/**`);
        await part(part(page, `${job}-result`), 'again').click();
        await part(part(page, `${job}-result`), 'problem').waitFor({ state: 'detached' });
    }
    await soon(() => part(page, 'digest').count(), 'it ends well the second time', 40000);
});

testCase('errors: the gateway stops under an open page and comes back at its port', async (t) => {
    t.allow(/^failed net::ERR_/, 404);
    const flags = ['--origin', `lab=${bed.folder}`, '--state', stateFolder()];
    let own = await begin({ flags });
    const { port, url } = own;
    await good(url, '/v1/info/lab/one.raw');
    const pages = {};
    for (const [name, view, id] of [['images', '#/', 'image-row'], ['mirrors', '#/mirrors', 'mirror-guide'],
        ['gateway', '#/gateway', 'plot-requests'], ['image', '#/image/lab/disk.raw', 'map']]) {
        pages[name] = await t.open(`${url}/${view}`);
        await part(pages[name], id).first().waitFor();
        await soon(async () => /req\/s|connected/.test(await part(pages[name], 'pulse').textContent()), `${name} begins`);
    }
    await own.stop();
    for (const [name, page] of Object.entries(pages)) {
        await page.bringToFront();
        await soon(async () => await part(page, 'pulse').getAttribute('data-state') === 'bad' &&
            /the gateway does not answer/.test(await part(page, 'pulse').textContent()), `${name} says that it is gone`, 20000);
    }
    for (const name of ['images', 'mirrors'])
        await soon(async () => /the gateway does not answer/.test(await problem(pages[name]).textContent()), name, 20000);
    // What was there stays to be read.
    assert(await part(pages.images, 'image-row').first().isVisible());
    assert(await part(pages.image, 'map').isVisible());
    await t.shot(pages.images, 'errors-stopped');
    own = await begin({ port, flags });
    assert.equal(own.port, port);
    for (const [name, page] of Object.entries(pages)) {
        await page.bringToFront();
        await soon(async () => await part(page, 'pulse').getAttribute('data-state') === 'good', `${name} goes on`, 20000);
        await soon(async () => await part(page, 'problem').count() === 0, `${name} has no problem left`, 20000);
    }
    await soon(async () => await part(pages.image, 'live-trouble').textContent() === '', 'the map is alive again', 20000);
    await part(pages.image, 'hex-behind').click();
    await soon(async () => /^Sector 1 /.test(await part(pages.image, 'hex-status').textContent()), 'and its bytes');
    for (const page of Object.values(pages))
        await page.context().close();
    await own.stop();
});

await run();
