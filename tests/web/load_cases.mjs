// SPDX-License-Identifier: Apache-2.0
// What it costs to open the page: round trips and bytes.
import { assert, bed, run, soon, testCase } from './harness.mjs';

const MOST_BYTES = 200_000; // of all that the page is made of, as it is sent

async function loaded(t) {
    const page = await t.open(bed.bare + '/');
    await soon(() => page.locator('[data-testid=images]').count(), 'the list is there');
    return page;
}

const files = (page) => page.evaluate(() => performance.getEntriesByType('resource')
    .filter((e) => new URL(e.name).pathname.startsWith('/web/'))
    .map((e) => ({ path: new URL(e.name).pathname, start: e.startTime, bytes: e.encodedBodySize, sent: e.transferSize })));

testCase('load: the page names every module it is made of, so all come in one round', async (t) => {
    const page = await loaded(t);
    const asked = (await files(page)).map((f) => f.path);
    assert(asked.length > 20, asked.join());
    const named = await page.evaluate(() => [...document.querySelectorAll('link[href], script[src], img[src]')]
        .map((e) => e.getAttribute('href') ?? e.getAttribute('src')));
    const late = asked.filter((path) => !named.includes(path));
    assert.deepEqual(late, [], 'asked for by another file alone');
    const unused = await page.evaluate(() => [...document.querySelectorAll('link[rel=modulepreload]')]
        .map((e) => e.getAttribute('href')));
    assert.equal(new Set(unused).size, unused.length, 'named twice');
});

testCase('load: it comes packed and small, and a second time only what changed', async (t) => {
    const page = await loaded(t);
    const first = (await files(page)).reduce((n, f) => n + f.bytes, 0);
    assert(first > 20_000 && first < MOST_BYTES, `${first} bytes`);
    await page.reload();
    await soon(() => page.locator('[data-testid=images]').count(), 'the list is there again');
    const again = (await files(page)).reduce((n, f) => n + f.sent, 0);
    assert(again < first / 4, `${again} of ${first} bytes`);
});

await run();
