// SPDX-License-Identifier: Apache-2.0
// A gateway with tokens: the page asks for one, keeps it in memory alone, and tells the
// gateway's words where it is not enough.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { refusal, says } from './own_gateway.mjs';

const closed = bed.closed, tokens = bed.tokens;
const WRONG = 'not-a-token-of-anybody';
const dialog = (page) => page.locator('#token-dialog');
const button = (page) => page.getByTestId('token-button');
const images = (page) => page.getByTestId('images').first();

async function use(page, token) {
    await page.getByTestId('token-input').fill(token);
    await page.getByTestId('token-use').click();
}

async function enter(t, token, view = '#/') {
    t.allow(401);
    const page = await t.open(`${closed}/${view}`);
    await dialog(page).waitFor();
    await use(page, token);
    return page;
}

// All that a page of this origin could keep something in, as text; Tokens of the browser's
// own process are not looked for.
async function kept(page) {
    const own = await page.evaluate(async () => JSON.stringify({
        local: { ...localStorage }, session: { ...sessionStorage }, cookie: document.cookie,
        address: location.href, history: history.state, name: window.name,
        html: document.documentElement.outerHTML,
        fields: [...document.querySelectorAll('input, textarea')].map((e) => e.value),
        databases: (await indexedDB.databases?.() ?? []).map((d) => d.name),
        entries: performance.getEntries().map((e) => e.name),
    }));
    return own + JSON.stringify(await page.context().storageState()) + JSON.stringify(await page.context().cookies());
}

testCase('token: the page and its files load without one, and the page asks by itself', async (t) => {
    t.allow(401);
    const answers = [];
    const page = await t.open(closed, { route: (context) =>
        context.on('response', (r) => answers.push([new URL(r.url()).pathname, r.status()])) });
    await dialog(page).waitFor();
    const words = await refusal(closed, '/v1/images');
    assert.equal(words.status, 401);
    assert.equal(await page.locator('#token-problem').textContent(), words.text);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'token-input');
    const files = answers.filter(([path]) => path === '/' || path.startsWith('/web/'));
    assert(files.length > 15, JSON.stringify(answers));
    assert.deepEqual(files.filter(([, status]) => status !== 200), []);
    assert(answers.some(([path, status]) => path.startsWith('/v1/') && status === 401));
    await t.shot(page, 'token-dialog');
});

testCase('token: one who closes the dialog is left alone with the API\'s words', async (t) => {
    t.allow(401);
    const page = await t.open(closed);
    await dialog(page).waitFor();
    await page.keyboard.press('Escape');
    await says(page.getByTestId('problem').first(), await refusal(closed, '/v1/images'));
    // Pages ask again every two or three seconds: that is no reason to ask for a token.
    let refused = 0;
    page.on('response', (r) => { refused += r.status() === 401; });
    await soon(() => refused >= 4, 'it was refused again', 30000);
    assert(!await dialog(page).isVisible());
    await button(page).click();
    assert(await dialog(page).isVisible());
});

testCase('token: a wrong one is refused in the API\'s words; whoever gives up is left alone', async (t) => {
    const page = await enter(t, WRONG);
    const words = await refusal(closed, '/v1/images', { token: WRONG });
    await soon(async () => await dialog(page).isVisible() &&
        await page.locator('#token-problem').textContent() === words.text, 'it asks again, and why');
    assert.equal(await page.getByTestId('token-input').inputValue(), '');
    await page.keyboard.press('Escape');
    let refused = 0;
    page.on('response', (r) => { refused += r.status() === 401; });
    await soon(() => refused >= 4, 'it was refused again', 30000);
    assert(!await dialog(page).isVisible());
});

testCase('token: the right one opens every view', async (t) => {
    const page = await enter(t, tokens.all);
    await images(page).waitFor();
    await soon(async () => /✓/.test(await button(page).textContent()), 'the button says that there is one');
    await soon(async () => /req\/s|connected/.test(await page.getByTestId('pulse').textContent()), 'figures come');
    for (const [view, id] of [['#/mirrors', 'mirror-guide'], ['#/gateway', 'plot-requests'],
        ['#/image/lab/disk.raw', 'map']]) {
        await page.goto(`${closed}/${view}`);
        await page.getByTestId(id).first().waitFor();
    }
    assert(!await dialog(page).isVisible());
    await soon(async () => /^[0-9a-f]/.test(await page.getByTestId('hex').locator('td').first().textContent()), 'bytes, too');
});

testCase('token: an answer to a request from before the right one does not ask again', async (t) => {
    let let_go;
    const given = new Promise((r) => { let_go = r; });
    t.allow(401);
    const page = await t.open(closed, { route: (context) => context.route('**/metrics', async (route) => {
        if (!route.request().headers().authorization)
            await given;
        await route.continue().catch(() => {});
    }) });
    await dialog(page).waitFor();
    await use(page, tokens.all);
    await images(page).waitFor();
    const late = page.waitForResponse((r) => r.url().endsWith('/metrics') && r.status() === 401);
    let_go();
    await late;
    await soon(async () => /req\/s|connected/.test(await page.getByTestId('pulse').textContent()), 'the next is answered');
    assert(!await dialog(page).isVisible());
});

testCase('token: one without the right: 403 in the API\'s words, and no question for another', async (t) => {
    t.allow(403);
    for (const [token, view, path] of [
        ['reader', '#/', '/v1/images'], ['looker', '#/gateway', '/v1/errors'],
        ['reader', '#/image/lab/disk.raw', '/v1/info/lab/disk.raw'], ['reader', '#/mirrors', '/v1/mirrors']]) {
        const page = await enter(t, tokens[token], view);
        const words = await refusal(closed, path, { token: tokens[token] });
        assert.equal(words.status, 403, path);
        const problem = page.getByTestId('problem').filter({ hasText: 'status 403' }).first();
        await says(problem, words);
        assert(!await dialog(page).isVisible());
        if (path === '/v1/errors')
            await t.shot(page, 'token-no-right');
        await page.context().close();
    }
});

testCase('token: who may only look sees what bytes were refused', async (t) => {
    t.allow(403);
    const page = await enter(t, tokens.looker, '#/image/lab/disk.raw');
    await page.getByTestId('stack').waitFor();
    const words = await refusal(closed, '/disk/lab/disk.raw', { token: tokens.looker });
    assert.equal(words.status, 403);
    await says(page.locator('#bytes').getByTestId('problem'), words);
    assert(await page.getByTestId('map').isVisible());
});

testCase('token: a mirror that may not be made is refused with the right that is missing', async (t) => {
    t.allow(403);
    const page = await enter(t, tokens.looker, '#/mirrors');
    await page.getByTestId('mirror-name').fill('x');
    await page.getByTestId('mirror-source').fill('lab/one.raw');
    const words = await refusal(closed, '/v1/mirrors', { token: tokens.looker, method: 'POST',
        body: { name: 'x', source: 'lab/one.raw' } });
    assert.equal(words.status, 403);
    await page.getByTestId('mirror-add').click();
    await says(page.getByTestId('mirror-form').getByTestId('problem'), words);
});

testCase('token: Forget forgets at once', async (t) => {
    const page = await enter(t, tokens.all);
    await images(page).locator('tbody tr').first().waitFor();
    await button(page).click();
    await page.getByTestId('token-forget').click();
    await says(page.getByTestId('problem').first(), await refusal(closed, '/v1/images'));
    assert(!/✓/.test(await button(page).textContent()));
    const sent = await page.waitForRequest((r) => r.url().endsWith('/metrics'));
    assert.equal(sent.headers().authorization, undefined);
});

testCase('token: Cancel changes nothing, and an unfinished token is not kept in the field', async (t) => {
    const page = await enter(t, tokens.all);
    await images(page).waitFor();
    await button(page).click();
    await page.getByTestId('token-input').fill('half of anoth');
    await page.getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await page.getByTestId('token-input').inputValue(), '');
    const sent = await page.waitForRequest((r) => r.url().endsWith('/metrics'));
    assert.equal(sent.headers().authorization, `Bearer ${tokens.all}`);
});

testCase('token: it is in no storage, no address and nowhere in the page', async (t) => {
    const page = await enter(t, tokens.all);
    const asked = [];
    page.on('request', (r) => asked.push(r.url()));
    await images(page).waitFor();
    for (const view of ['#/image/lab/disk.raw', '#/mirrors', '#/gateway', '#/']) {
        await page.goto(`${closed}/${view}`);
        await soon(() => page.locator('h1').count(), view);
        assert(!(await kept(page)).includes(tokens.all), view);
    }
    assert(asked.length > 10 && !asked.some((url) => url.includes(tokens.all)), asked.join('\n'));
    // The search itself finds what is there.
    for (const put of [(x) => localStorage.setItem('k', x), (x) => { document.cookie = `k=${x}`; },
        (x) => document.body.setAttribute('data-k', x)]) {
        const other = await t.open(closed);
        await other.evaluate(put, tokens.all);
        assert((await kept(other)).includes(tokens.all), String(put));
        await other.context().close();
    }
});

testCase('token: commands name a variable and never the token itself', async (t) => {
    const page = await enter(t, tokens.all, '#/image/lab/disk.raw');
    await page.getByTestId('command').first().waitFor();
    const commands = await page.getByTestId('command').allTextContents();
    assert(commands.some((c) => c.includes('$PLATTER_TOKEN')), commands.join('\n'));
    assert(!commands.some((c) => c.includes(tokens.all)));
});

testCase('token: it is gone when the page is loaded again, and in another tab', async (t) => {
    const page = await enter(t, tokens.all);
    await images(page).waitFor();
    const other = await page.context().newPage();
    await other.goto(closed);
    await dialog(other).waitFor();
    await other.close();
    await page.reload();
    await dialog(page).waitFor();
    assert.equal(await page.getByTestId('token-input').inputValue(), '');
    const sent = await page.waitForRequest((r) => r.url().endsWith('/metrics'));
    assert.equal(sent.headers().authorization, undefined);
});

await run();
