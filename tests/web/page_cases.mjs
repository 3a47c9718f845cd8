// SPDX-License-Identifier: Apache-2.0
import { assert, bed, run, testCase } from './harness.mjs';

testCase('the description of the API opens in a browser, and what is not there is said', async (t) => {
    t.allow(404);
    const page = await t.open(bed.main + '/openapi.json');
    assert.match(await page.textContent('body'), /"openapi": "3/);
    await page.goto(bed.main + '/nothing');
    assert.match(await page.textContent('body'), /no such resource/);
    await t.shot(page, 'nothing');
});

await run();
