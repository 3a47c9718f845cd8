// SPDX-License-Identifier: Apache-2.0
import { assert, bed, run, soon, testCase } from './harness.mjs';

testCase('the description of the API opens in a browser, and what is not there is said', async (t) => {
    t.allow(404);
    const page = await t.open(bed.main + '/openapi.json');
    assert.match(await page.textContent('body'), /"openapi": "3/);
    await page.goto(bed.main + '/nothing');
    assert.match(await page.textContent('body'), /no such resource/);
    await t.shot(page, 'nothing');
});

testCase('errors: requests that chose one id are a row each, however often the list is drawn', async (t) => {
    for (let i = 0; i < 4; i++) // in one second at least two of them
        await fetch(`${bed.bare}/of-one-id-${i}`, { headers: { 'X-Request-Id': 'chosen' } });
    const page = await t.open(`${bed.bare}/#/gateway`);
    const mine = page.getByTestId('error-row').filter({ hasText: '/of-one-id-' });
    await soon(async () => await mine.count() === 4, 'four rows');
    await page.waitForResponse((r) => r.url().endsWith('/v1/errors'));
    await page.waitForResponse((r) => r.url().endsWith('/v1/errors'));
    assert.equal(await mine.count(), 4);
    assert.deepEqual((await mine.allTextContents()).map((x) => x.match(/of-one-id-\d/)[0]).sort(),
        [0, 1, 2, 3].map((i) => `of-one-id-${i}`));
});

testCase('an address of no view, whatever words it has, shows the list of images', async (t) => {
    const page = await t.open(`${bed.bare}/#/constructor`);
    await page.getByTestId('images').waitFor();
    for (const word of ['__proto__', 'toString', 'nothing']) {
        await page.goto(`${bed.bare}/#/gateway`);
        await page.goto(`${bed.bare}/#/${word}`);
        await page.getByTestId('images').waitFor();
    }
});

testCase('commands: an address has nothing that a shell, QEMU or iPXE would read as its own', async (t) => {
    const page = await t.open(`${bed.bare}/#/image/lab/${encodeURIComponent(bed.hostile.quotes)}`);
    const commands = page.getByTestId('command');
    await commands.first().waitFor();
    const texts = await commands.allTextContents();
    const booted = texts.find((x) => x.startsWith('sanboot '));
    assert.match(booted, /^sanboot http:[\w:\/.%~-]+$/);
    const url = booted.slice('sanboot '.length);
    assert.equal(decodeURIComponent(new URL(url).pathname), `/disk/lab/${bed.hostile.quotes}`);
    assert(texts.every((x) => x.includes(url)), texts.join('\n'));
    assert.equal((await fetch(url, { method: 'HEAD' })).status, 200);
});

await run();
