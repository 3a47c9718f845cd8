// SPDX-License-Identifier: Apache-2.0
// The list of images: what it tells, and finding one's own among five thousand.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { longTasks, observe } from './observers.mjs';
import { ask, by, figure, linger, read, says, text } from './views.mjs';

// Of an image without selectors: others may have been opened with some.
const rowOf = (page, name) => page.locator('[data-testid="image-row"]', { has: page.locator(`a[href="#/image/${name}"]`) });
const isBare = (row, name) => row.name === name && !['member', 'snapshot', 'partition', 'layers', 'secret'].some((s) => s in row);
const namesOf = (page) => page.$$eval('[data-testid="image-row"]', (rows) => rows.map((r) => r.dataset.name));
const cell = (row, i) => text(row.locator('td').nth(i));
const COLUMNS = { origin: 0, stack: 1, virtual: 2, allocated: 3, source: 4, cached: 5, readers: 6, state: 7 };

const shows = (row, column, what) => soon(async () => {
    assert.equal(await cell(row, COLUMNS[column]), String(what));
    return true;
}, column);

testCase('images: origin, stack, sizes and the share in memory are those of the gateway', async (t) => {
    await read('web/gce.tar.gz', 0, 1 << 20);
    await read('lab/box.ova', 60 << 20, 1 << 20);
    const page = await t.open(bed.main + '/#/');
    for (const [name, origin, stack] of [
        ['web/gce.tar.gz', 'web', ['tar', 'gzip', 'curl']], ['lab/box.ova', 'lab', ['vmdk', 'tar', 'file']]]) {
        const row = rowOf(page, name);
        await row.waitFor();
        const [api] = (await ask('/v1/images')).filter((r) => isBare(r, name));
        assert.deepEqual(api.stack, stack);
        assert.deepEqual(await row.locator('.stack .chip').allTextContents(), stack);
        await shows(row, 'origin', origin);
        await shows(row, 'virtual', '256 MiB');
        assert.equal(await row.locator('td').nth(COLUMNS.virtual).getAttribute('title'), '268,435,456 bytes');
        await shows(row, 'source', await figure(page, 'bytes', api['source-size']));
        const { extents } = await ask(`/v1/extents/${name}`);
        await shows(row, 'allocated', await figure(page, 'bytes',
            extents.filter((e) => e.data || e.compressed).reduce((n, e) => n + e.length, 0)));
        await soon(async () => {
            const [now] = (await ask('/v1/images')).filter((r) => isBare(r, name));
            return (await cell(row, COLUMNS.cached)) === await figure(page, 'percent', now['cached-bytes'], now['virtual-size']) &&
                now['cached-bytes'];
        }, 'its share in memory');
        await soon(async () => (await row.locator('.bar > span').boundingBox()).width > 0, 'the bar has a length');
    }
    const golden = rowOf(page, 'golden');
    assert.equal(await text(golden.locator('.source')), 'lab/gce.tar.gz');
    await shows(golden, 'origin', 'lab');
    await golden.locator('a').click();
    await says(by(page, 'image-title'), /^golden$/);
});

testCase('images: who reads is counted while they do, and not after', async (t) => {
    const leave = await linger('slow/disk.raw');
    const page = await t.open(bed.main + '/#/');
    const row = rowOf(page, 'slow/disk.raw');
    await shows(row, 'readers', 1);
    await shows(row, 'state', 'being read');
    leave();
    await shows(row, 'readers', 0);
    await shows(row, 'state', 'open');
});

testCase('images: a search asks once for what was typed, and says what it found', async (t) => {
    const page = await t.open(bed.many + '/#/');
    const range = by(page, 'images-range'), asked = [];
    await says(range, /^1–100 of 5,000$/);
    page.on('request', (r) => asked.push(new URL(r.url()).searchParams.get('search')));
    // As fast as nobody types: every key before the first answer could come.
    await by(page, 'search').evaluate((field) => {
        for (const word of ['b', 'bo', 'box', 'box.', 'box.ova']) {
            field.value = word;
            field.dispatchEvent(new Event('input', { bubbles: true }));
        }
    });
    await says(range, /^1–100 of 1,000$/);
    assert.deepEqual([...new Set(asked.filter(Boolean))], ['box.ova']);
    for (const source of await page.locator('[data-testid="image-row"] .source').allTextContents())
        assert.equal(source, 'lab/box.ova');
    await by(page, 'search').fill('VM-00420');
    await says(page.locator('.empty'), /^No image has “VM-00420” in its name, source or stack\.$/);
    assert.equal(await text(range), 'none');
    assert.deepEqual(await namesOf(page), []);
    await by(page, 'search').fill('VM-0042'); // upper or lower case
    await says(range, /^1–1 of 1$/);
    assert.deepEqual(await namesOf(page), ['vm-0042']);
    await by(page, 'search').fill('');
    await says(range, /^1–100 of 5,000$/);
});

testCase('images: an answer that comes late does not replace a newer one', async (t) => {
    const held = [];
    const page = await t.open(bed.many + '/#/', { route: async (context) => {
        await context.clock.install();
        await context.route(/search=vm-00&/, (route) => { held.push(route); });
    } });
    await says(by(page, 'images-range'), /^1–100 of 5,000$/);
    await by(page, 'search').fill('vm-00');
    await page.clock.runFor(200);
    await soon(() => held.length, 'the first is asked');
    // What is asked for each few seconds comes between.
    await page.clock.runFor(10000);
    await by(page, 'search').fill('vm-0123');
    await page.clock.runFor(200);
    await says(by(page, 'images-range'), /^1–1 of 1$/);
    for (const route of held)
        await route.fulfill({ response: await route.fetch() }).catch(() => {});
    await page.evaluate(() => fetch('/v1/origins').then((r) => r.text()));
    assert.deepEqual(await namesOf(page), ['vm-0123']);
    assert.equal(await text(by(page, 'images-range')), '1–1 of 1');
});

testCase('images: each head sorts, both ways, and says so', async (t) => {
    for (const name of ['lab/disk.raw', 'lab/one.raw', 'lab/notes.txt', 'lab/gce.tar.gz'])
        await read(name, 0, 13);
    // One that nobody has opened.
    await ask('/v1/images', { method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ name: 'unread', source: 'lab/one.raw' }) });
    const leave = await linger('slow/disk.raw');
    const page = await t.open(bed.main + '/#/');
    await rowOf(page, 'lab/disk.raw').waitFor();
    const FIRST = { name: 'descending', state: 'ascending', 'virtual-size': 'descending', 'cached-bytes': 'descending', readers: 'descending' };
    for (const [key, first] of Object.entries(FIRST)) {
        const button = by(page, `sort-${key}`), th = page.locator('th', { has: button });
        for (const way of [first, first === 'ascending' ? 'descending' : 'ascending']) {
            await button.focus();
            await page.keyboard.press(way === first ? 'Enter' : 'Space');
            await soon(async () => (await th.getAttribute('aria-sort')) === way, `${key} is ${way}`);
            assert.equal(await page.locator('th[aria-sort]').count(), 1);
            // In memory and read is what changes meanwhile: the page follows the gateway.
            await soon(async () => {
                const rows = await ask(`/v1/images?limit=100&sort=${way === 'descending' ? '-' : ''}${key}`);
                const order = rows.map((r) => r[key]).filter((v) => v !== undefined);
                const sorted = [...order].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0) * (way === 'descending' ? -1 : 1));
                assert.deepEqual(order, sorted);
                assert(new Set(order).size > 1, 'there is something to sort');
                assert.deepEqual(await namesOf(page), rows.map((r) => r.name));
                return true;
            }, `rows by ${key}, ${way}`);
        }
    }
    leave();
    await ask('/v1/images/unread', { method: 'DELETE' });
});

testCase('images: five thousand, a hundred at a time', async (t) => {
    const page = await t.open(bed.many + '/#/');
    const range = by(page, 'images-range'), before = by(page, 'page-before'), behind = by(page, 'page-behind');
    const numbers = async () => (await namesOf(page)).map((n) => Number(n.slice(3)));
    await says(range, /^1–100 of 5,000$/);
    assert(await before.isDisabled());
    assert.deepEqual(await numbers(), [...Array(100).keys()]);
    await behind.click();
    await says(range, /^101–200 of 5,000$/);
    assert.deepEqual(await numbers(), [...Array(100).keys()].map((n) => n + 100));
    await before.click();
    await says(range, /^1–100 of/);
    await behind.click();
    await says(range, /^101–200 of/);
    // A search begins on its first page, and has pages of its own.
    await by(page, 'search').fill('gce.tar');
    await says(range, /^1–100 of 1,000$/);
    for (let i = 1; i < 10; i++) {
        await behind.click();
        await says(range, new RegExp(`^${i}01–${i < 9 ? i + 1 : '1,0'}00 of 1,000$`));
    }
    assert(await behind.isDisabled());
    assert.equal((await numbers()).at(-1), 4997);
    // A list that became shorter than where somebody is.
    await by(page, 'search').fill('vm-49');
    await says(range, /^1–100 of 100$/);
    assert(await before.isDisabled() && await behind.isDisabled());
    await by(page, 'sort-name').click();
    await soon(async () => (await numbers())[0] === 4999, 'the last one first');
});

testCase('images: five thousand hold nothing up', async (t) => {
    // Others work on this machine too: slow is what is slow every time.
    let worst;
    for (let i = 0; i < 3; i++) {
        const page = await t.open(bed.many + '/#/', { init: [observe] });
        const range = by(page, 'images-range');
        await says(range, /^1–100 of 5,000$/);
        await by(page, 'page-behind').click();
        await says(range, /^101–200 of 5,000$/);
        await by(page, 'search').fill('vm-4');
        await says(range, /^1–100 of 1,000$/);
        await by(page, 'sort-name').click();
        await soon(async () => (await namesOf(page))[0] === 'vm-4999', 'sorted');
        worst = (await longTasks(page))[0]?.ms ?? 0;
        await page.context().close();
        if (worst <= 200)
            return;
    }
    assert.fail(`a task of ${worst} ms`);
});

await run();
