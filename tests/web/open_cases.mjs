// SPDX-License-Identifier: Apache-2.0
// Opening an image by its path, giving it a name, and what is said when it cannot be.
import { copyFile } from 'node:fs/promises';
import { assert, bed, run, sleep, soon, testCase } from './harness.mjs';
import { ask, by, sameProblem, says, text, viewOf } from './views.mjs';

async function openForm(t, origin, options) {
    const page = await t.open(bed.main + '/#/', options);
    await by(page, 'add-origin').selectOption(origin);
    return [page, by(page, 'add-path')];
}

// What is proposed, without the notes.
const proposals = (page) => page.$$eval('[data-testid="add-path-list"]:not([hidden]) [role="option"] bdi', (all) => all.map((e) => e.textContent));
const proposes = (page, what) => soon(async () => {
    assert.deepEqual(await proposals(page), what);
    return true;
}, `it proposes ${what}`);
const hashIs = (page, hash) => soon(async () => new URL(page.url()).hash === hash, `the address is ${hash}`);

testCase('open: paths are completed in a folder, with the keyboard', async (t) => {
    const [page, path] = await openForm(t, 'lab');
    const key = (name) => page.keyboard.press(name);
    const chosen = async () => {
        const id = await path.getAttribute('aria-activedescendant');
        return id && text(page.locator(`#${id} bdi`));
    };
    await path.focus();
    await page.keyboard.type('mo');
    await proposes(page, ['more/']);
    assert.equal(await path.getAttribute('aria-expanded'), 'true');
    assert.equal(await text(by(page, 'add-path-list').locator('.dim')), 'folder');
    // A folder goes on with what is in it.
    await key('ArrowDown');
    assert.equal(await chosen(), 'more/');
    await key('Enter');
    assert.equal(await path.inputValue(), 'more/');
    await proposes(page, ['more/deeper/', 'more/ok.qcow2']);
    // Round and round, both ways.
    assert.equal(await chosen(), null);
    for (const [name, what] of [['ArrowDown', 'more/deeper/'], ['ArrowDown', 'more/ok.qcow2'],
        ['ArrowDown', 'more/deeper/'], ['ArrowUp', 'more/ok.qcow2'], ['ArrowUp', 'more/deeper/']]) {
        await key(name);
        assert.equal(await chosen(), what);
        assert.deepEqual(await page.$$eval('[role="option"][aria-selected="true"] bdi', (all) => all.map((e) => e.textContent)), [what]);
    }
    await key('Escape');
    assert.deepEqual(await proposals(page), []);
    assert.equal(await path.getAttribute('aria-expanded'), 'false');
    assert.equal(await path.inputValue(), 'more/');
    // Tab takes what is chosen, and goes on to the next field.
    await page.keyboard.type('o');
    await proposes(page, ['more/ok.qcow2']);
    await key('ArrowDown');
    await key('Tab');
    assert.equal(await path.inputValue(), 'more/ok.qcow2');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'add-name');
    assert.deepEqual(await proposals(page), []);
    await path.focus();
    await proposes(page, ['more/ok.qcow2']);
    await key('Escape');
    await key('Enter');
    await hashIs(page, '#/image/lab/more/ok.qcow2');
});

testCase('open: what is proposed follows what is written, and the pointer takes it', async (t) => {
    const held = [];
    const [page, path] = await openForm(t, 'lab', { route: (context) => context.route(/prefix=n&/, (route) => { held.push(route); }) });
    await path.fill('n');
    await soon(() => held.length, 'it is asked for');
    await path.fill('no');
    await proposes(page, ['notes.txt']);
    await held[0].continue().catch(() => {});
    await path.fill('.h'); // hidden until they are asked for
    await proposes(page, ['.hidden.raw']);
    await path.fill('on');
    await proposes(page, ['one.raw']);
    assert.match(await text(by(page, 'add-path-list').locator('.dim')), /^2 MiB$/);
    await by(page, 'add-path-list').locator('li').click();
    assert.equal(await path.inputValue(), 'one.raw');
    assert.deepEqual(await proposals(page), []);
    await by(page, 'add-open').click();
    await hashIs(page, '#/image/lab/one.raw');
    await says(by(page, 'image-title'), /^lab\/one\.raw$/);
});

testCase('open: a web server has no list of its files, and is not asked for one', async (t) => {
    const [page, path] = await openForm(t, 'web');
    const asked = [];
    page.on('request', (r) => asked.push(new URL(r.url()).pathname));
    await path.fill('no');
    await sleep(500); // nothing happens
    assert.deepEqual(await proposals(page), []);
    assert.deepEqual(asked.filter((p) => p.startsWith('/v1/files/')), []);
    await path.fill('/compressed.qcow2'); // a slash before is forgiven
    await path.press('Enter');
    await hashIs(page, '#/image/web/compressed.qcow2');
    await page.goBack();
    await by(page, 'add-path').press('Enter');
    assert.equal(await text(by(page, 'problem')), 'name a file of the origin');
});

testCase('open: a name is given, is in the list, and is forgotten when somebody says so', async (t) => {
    t.allow(409, 403, 404);
    const [page, path] = await openForm(t, 'lab');
    await path.fill('one.raw');
    await by(page, 'add-name').fill('mine');
    await by(page, 'add-name').press('Enter');
    await hashIs(page, '#/image/mine');
    await says(by(page, 'image-title'), /^mine$/);
    assert.equal((await ask('/v1/images?search=mine'))[0].source, 'lab/one.raw');
    await page.goto(bed.main + '/#/');
    const row = page.locator('[data-testid="image-row"][data-name="mine"]');
    assert.equal(await text(row.locator('.source')), 'lab/one.raw');
    // A name that is taken.
    await by(page, 'add-origin').selectOption('lab');
    await by(page, 'add-path').fill('odd.raw');
    await by(page, 'add-name').fill('mine');
    let answer = page.waitForResponse((r) => r.request().method() === 'POST');
    await by(page, 'add-open').click();
    await sameProblem(by(page, 'problem'), await answer);
    await row.locator('a').click();
    // Not before it was said.
    const yes = by(page, 'forget-yes');
    await by(page, 'forget').click();
    await page.getByRole('button', { name: 'Keep it' }).click();
    await by(page, 'forget').click();
    await page.keyboard.press('Escape');
    await soon(async () => !await yes.isVisible(), 'the dialog is closed');
    assert.equal((await ask('/v1/images?search=mine')).length, 1);
    await by(page, 'forget').click();
    await yes.click();
    await hashIs(page, '#/');
    await page.locator('[data-testid="image-row"]').first().waitFor();
    assert.equal(await row.count(), 0);
    assert.deepEqual(await ask('/v1/images?search=mine'), []);
    // One that the configuration names stays: nothing offers to forget it.
    await page.goto(viewOf('golden'));
    await says(by(page, 'image-title'), /^golden$/);
    await by(page, 'map').waitFor();
    assert.equal(await by(page, 'forget').count(), 0);
});

for (const [what, ref, status, title, more] of [
    ['a file that is not there', 'lab/nothing.raw', 404, /no such image/],
    ['what policy refuses', 'lab/away.qcow2', 403, /not allowed by policy/],
    ['an image that is malformed', 'lab/broken.qcow2', 502, /malformed/, /L1 table/],
    ['an origin where nobody is', 'gone/x.raw', 502, /origin failed/],
    ['an origin that does not answer', 'mute/x.raw', 504, /origin too slow/],
])
    testCase(`open: ${what}: ${status}, in the gateway's words, with the request's id`, async (t) => {
        t.allow(status);
        const [origin, file] = ref.split('/');
        const [page, path] = await openForm(t, origin);
        const isInfo = (r) => r.url().includes('/v1/info/');
        let answer = page.waitForResponse(isInfo);
        await path.fill(file);
        await path.press('Enter');
        let doc = await sameProblem(by(page, 'problem'), await answer);
        assert.equal(doc.status, status);
        assert.match(doc.title, title);
        assert.match(doc.detail ?? '', more ?? /^/);
        assert.equal(new URL(page.url()).hash, '#/');
        // The same, of who comes by its address; and trying again asks again.
        answer = page.waitForResponse(isInfo);
        await page.goto(viewOf(ref));
        doc = await sameProblem(by(page, 'problem'), await answer);
        answer = page.waitForResponse(isInfo);
        await by(page, 'again').click();
        const second = await answer;
        await soon(async () => (await text(by(page, 'request-id'))) !== doc.request_id, 'it is asked again');
        await sameProblem(by(page, 'problem'), second);
    });

testCase('open: what was wrong and is not any more is opened by trying again', async (t) => {
    t.allow(404);
    const late = `late-${process.pid}.raw`;
    const page = await t.open(viewOf('lab/' + late));
    await by(page, 'problem').waitFor();
    await copyFile(`${bed.www}/one.raw`, `${bed.www}/${late}`); // it stays: the list asks for it
    await by(page, 'again').click();
    await by(page, 'map').waitFor();
    assert.equal(await by(page, 'problem').count(), 0);
});

testCase('open: of several disks one is chosen', async (t) => {
    const [page, path] = await openForm(t, 'lab');
    await path.fill('two.tar');
    await path.press('Enter');
    const choices = by(page, 'choices').getByRole('button');
    await choices.first().waitFor();
    assert.deepEqual(await choices.allTextContents(), ['one.raw', 'two.raw']);
    await choices.nth(1).click();
    await hashIs(page, '#/image/lab/two.tar?member=two.raw');
    assert.equal(await text(by(page, 'selector')), 'member=two.raw ✕');
    // By its address; and back to the question by taking the answer away.
    await by(page, 'selector').click();
    await hashIs(page, '#/image/lab/two.tar');
    await choices.first().click();
    await hashIs(page, '#/image/lab/two.tar?member=one.raw');
    await by(page, 'map').waitFor();
});

await run();
