// SPDX-License-Identifier: Apache-2.0
// Every view in the looks that users have; for those who do not see it, or have no mouse;
// and nothing that moves under their hands.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { accessible } from './axe.mjs';
import { walk } from './keyboard.mjs';
import { LOOKS, fits, matrix } from './matrix.mjs';
import { ask } from './own_gateway.mjs';
import { observe, shifts } from './observers.mjs';

const part = (page, id) => page.getByTestId(id);
const settled = (page, what) => soon(what, `${page.url()} is whole`, 40000);
const hasText = async (locator, re = /\S/) => re.test(await locator.first().textContent());

// name -> [address, until it is whole]
const VIEWS = {
    images: [`${bed.main}/#/`, async (page) => {
        await part(page, 'images').waitFor();
        await settled(page, () => hasText(part(page, 'images-range'), /\d|none/));
    }],
    image: [`${bed.main}/#/image/lab/top.qcow2`, async (page) => {
        await settled(page, () => hasText(part(page, 'runs'), /extent/));
        await settled(page, () => hasText(part(page, 'hex-status'), /^Sector/));
        for (const id of ['snapshot-row', 'partition-row', 'command', 'backing'])
            await part(page, id).first().waitFor();
    }],
    archive: [`${bed.main}/#/image/lab/box.ova`, async (page) => {
        await settled(page, () => hasText(part(page, 'runs'), /extent/));
        await settled(page, () => hasText(part(page, 'hex-status'), /^Sector/));
        for (const id of ['member-row', 'partition-row'])
            await part(page, id).first().waitFor();
    }],
    mirrors: [`${bed.edge}/#/mirrors`, (page) => part(page, 'mirror-row').first().waitFor()],
    mirror: [`${bed.edge}/#/mirrors/whole`, (page) => part(page, 'mirror-facts').waitFor()],
    gateway: [`${bed.main}/#/gateway`, async (page) => {
        await settled(page, () => hasText(part(page, 'now-active'), /\d/));
        await ask(bed.main, '/v1/info/lab/none.raw');
        await part(page, 'errors').waitFor();
        await settled(page, async () => await page.locator('.plot canvas').count() >= 5);
    }],
    error: [`${bed.main}/#/image/lab/broken.qcow2`, (page) => part(page, 'problem').first().waitFor()],
    choices: [`${bed.main}/#/image/lab/two.tar`, (page) => part(page, 'choices').waitFor()],
};
// Answers that these views are meant to have.
const allow = (t) => t.allow(400, 409, 300, 502);

// Dialogs and what else opens: name -> [view, how].
const OPEN = {
    'token dialog': ['images', async (page) => {
        await part(page, 'token-button').click();
        await part(page, 'token-input').waitFor();
    }],
    'question before a mirror goes': ['mirror', async (page) => {
        await part(page, 'mirror-remove').click();
        await part(page, 'mirror-remove-dialog').waitFor();
    }],
    'proposals': ['images', async (page) => {
        await part(page, 'add-origin').selectOption('lab');
        await part(page, 'add-path').fill('m');
        await part(page, 'add-path-list').getByRole('option').first().waitFor();
        await page.keyboard.press('ArrowDown');
    }],
    'more of a mirror, and an error': ['mirrors', async (page) => {
        await part(page, 'mirror-more').locator('summary').click();
        await part(page, 'mirror-name').fill('not a name');
        await part(page, 'mirror-source').fill('x');
        await part(page, 'mirror-add').click();
        await part(page, 'problem').first().waitFor();
    }],
    'a file that is not there': ['images', async (page) => {
        await part(page, 'add-path').fill('none');
        await part(page, 'add-open').click();
        await part(page, 'problem').first().waitFor();
    }],
    'a question before a name goes': ['images', async (page) => {
        await ask(bed.main, '/v1/images', { method: 'POST', body: { name: 'passing', source: 'lab/one.raw' } });
        await page.goto(`${bed.main}/#/image/passing`);
        await part(page, 'forget').click();
        await part(page, 'forget-yes').waitFor();
        await ask(bed.main, '/v1/images/passing', { method: 'DELETE' });
    }],
    'what a check found': ['images', async (page) => {
        await page.goto(`${bed.main}/#/image/lab/corrupt.qcow2`);
        await part(page, 'check').click();
        await part(page, 'check-verdict').waitFor();
    }],
};

for (const colorScheme of ['light', 'dark']) {
    testCase(`looks: axe finds nothing on any view, ${colorScheme}`, async (t) => {
        allow(t);
        const found = [];
        for (const [url, whole] of Object.values(VIEWS)) {
            const page = await t.open(url, { colorScheme });
            await whole(page);
            await accessible(page).catch((e) => found.push(e.message));
            await page.context().close();
        }
        assert.equal(found.length, 0, found.join('\n'));
    });

    testCase(`looks: axe finds nothing in dialogs, proposals and errors, ${colorScheme}`, async (t) => {
        t.allow(400, 404, 409);
        const found = [];
        for (const [name, [view, open]] of Object.entries(OPEN)) {
            const [url, whole] = VIEWS[view];
            const page = await t.open(url, { colorScheme });
            await whole(page);
            await open(page);
            await accessible(page).catch((e) => found.push(`${name}: ${e.message}`));
            if (colorScheme === 'light')
                await t.shot(page, `looks-open-${name.replaceAll(' ', '-')}`, { fullPage: false });
            await page.context().close();
        }
        assert.equal(found.length, 0, found.join('\n'));
    });
}

for (const [name, [url, whole]] of Object.entries(VIEWS)) {
    testCase(`looks: Tab goes through all of ${name}, and the way in skips the navigation`, async (t) => {
        allow(t);
        const page = await t.open(url);
        await whole(page);
        const steps = await walk(page);
        assert.equal(steps[0].name, 'skip');
        assert(steps.length >= 8, JSON.stringify(steps.map((s) => s.text)));
        await part(page, 'skip').focus();
        await page.keyboard.press('Enter');
        assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
        await page.keyboard.press('Tab');
        assert(await page.evaluate(() => Boolean(document.activeElement.closest('main, footer'))));
    });

    testCase(`looks: nothing moves while ${name} loads`, async (t) => {
        allow(t);
        for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
            const page = await t.open(url, { init: [observe], viewport });
            await whole(page);
            const { total, rows } = await shifts(page);
            assert(total < 0.02, `${viewport.width}: ${total} ${JSON.stringify(rows)}`);
            await page.context().close();
        }
    });

    testCase(`looks: ${name}, wide and narrow, light and dark, zoomed, forced colours`, async (t) => {
        allow(t);
        await matrix(t, `looks-${name}`, url, whole);
    });

    testCase(`looks: ${name}, right to left`, async (t) => {
        allow(t);
        for (const look of ['light-wide', 'dark-narrow']) {
            const page = await t.open(url, LOOKS[look]);
            await whole(page);
            await page.evaluate(() => { document.documentElement.dir = 'rtl'; });
            await t.shot(page, `looks-${name}-rtl-${look}`);
            await fits(page);
            const { brand, button, width } = await page.evaluate(() => ({ width: innerWidth,
                brand: document.querySelector('.brand').getBoundingClientRect().right,
                button: document.getElementById('token-button').getBoundingClientRect().left }));
            assert(brand > width - 60 && (look.endsWith('narrow') || button < 60), `${brand} ${button} of ${width}`);
            await page.context().close();
        }
    });
}

testCase('looks: dialogs hold the focus and give it back', async (t) => {
    const page = await t.open(VIEWS.mirror[0]);
    await VIEWS.mirror[1](page);
    for (const [opener, dialog] of [['token-button', '#token-dialog'], ['mirror-remove', '[data-testid=mirror-remove-dialog]']]) {
        await part(page, opener).focus();
        await page.keyboard.press('Enter');
        await page.locator(`${dialog}[open]`).waitFor();
        for (let i = 0; i < 8; i++) {
            await page.keyboard.press('Tab');
            assert(await page.evaluate((d) => document.activeElement === document.body ||
                Boolean(document.activeElement.closest(d)), dialog), opener);
        }
        await page.keyboard.press('Escape');
        await soon(async () => await page.evaluate(() => document.activeElement.dataset.testid) === opener, `back at ${opener}`);
    }
});

testCase('looks: nothing moves for who wants no motion', async (t) => {
    const page = await t.open(VIEWS.mirrors[0], { reducedMotion: 'reduce' });
    await VIEWS.mirrors[1](page);
    const moving = () => page.evaluate(() => [...document.querySelectorAll('*')].filter((e) => {
        const s = getComputedStyle(e);
        return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0;
    }).length);
    assert.equal(await moving(), 0);
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    assert(await moving() > 0, 'and something does for the others');
});

await run();
