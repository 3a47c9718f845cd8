// SPDX-License-Identifier: Apache-2.0
// Names that somebody else chose: text and nothing else, wherever they are shown.  And
// what stands behind that when the page is wrong: its Content-Security-Policy.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { fits } from './matrix.mjs';
import { ask, good } from './own_gateway.mjs';

const main = bed.main, names = Object.entries(bed.hostile);
const path = (...parts) => parts.map(encodeURIComponent).join('/');
const image = (name) => `${main}/#/image/lab/${path(name)}`;

// What a name would leave if it were taken for markup, a script, an address or a
// template: elements and attributes that this page never makes.
async function unharmed(page) {
    const found = await page.evaluate(() => [...document.querySelectorAll('*')].filter((e) =>
        (e.localName === 'script' && !(e.src && e.closest('head'))) || e.localName === 'iframe' ||
        (e.localName === 'img' && !e.getAttribute('src').startsWith('/web/')) ||
        (['b', 'i'].includes(e.localName) && !e.closest('.partition')) ||
        [...e.attributes].some((a) => a.name.startsWith('on') || /^\s*javascript:/i.test(a.value)) ||
        (e.localName === 'a' && e.origin !== location.origin)).map((e) => e.outerHTML.slice(0, 200)));
    assert.deepEqual(found, []);
    assert.notEqual(await page.title(), 'owned');
}

// Each text with right-to-left letters or an override stands alone in an element that
// keeps its direction to itself.
async function isolated(page) {
    const { rows, n } = await page.evaluate(() => {
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const out = [];
        let seen = 0;
        for (let t = texts.nextNode(); t; t = texts.nextNode()) {
            const e = t.parentElement;
            if (!/[\u0590-\u05ff\u202a-\u202e]/.test(t.data) || e.closest('.unseen') || !e.checkVisibility())
                continue;
            seen++;
            const style = getComputedStyle(e);
            if (e.localName !== 'bdi' || !/isolate|plaintext/.test(style.unicodeBidi))
                out.push(e.outerHTML.slice(0, 200));
        }
        return { rows: out, n: seen };
    });
    assert.deepEqual(rows, []);
    return n;
}

async function shows(page, name, where = page.locator('main')) {
    await soon(async () => (await where.textContent()).includes(name), `it shows ${name}`);
    await unharmed(page);
}

testCase('hostile: the title, the head and the commands of an image have its name as it is', async (t) => {
    for (const [kind, name] of names) {
        const page = await t.open(image(name));
        await page.getByTestId('map').waitFor();
        assert.equal(await page.getByTestId('image-title').textContent(), `lab/${name}`);
        assert((await page.title()).startsWith(`lab/${name}`), kind);
        await unharmed(page);
        // The address in the commands is that of this very disk.
        const curl = await page.getByTestId('command').first().textContent();
        const url = /(http:\S+?)'? \|/.exec(curl)[1];
        const r = await fetch(url.replaceAll("'\\''", "'"), { headers: { Range: 'bytes=0-511' } });
        assert.equal(r.status, 206, curl);
        await r.body.cancel();
        await page.context().close();
    }
});

testCase('hostile: the list of images shows each name, and its link leads to that image', async (t) => {
    for (const [, name] of names)
        await good(main, `/v1/info/lab/${path(name)}`);
    const page = await t.open(`${main}/#/`);
    for (const [, name] of names) {
        await page.getByTestId('search').fill(name);
        const link = page.getByTestId('images').getByRole('link').filter({ hasText: name }).first();
        await soon(async () => await link.textContent() === `lab/${name}`, `the row of ${name}`);
        await unharmed(page);
        await link.click();
        await soon(async () => await page.getByTestId('image-title').textContent() === `lab/${name}`, name);
        await page.goBack();
        await page.getByTestId('search').waitFor();
    }
});

testCase('hostile: a search for nothing, and an address that is wrong, come back as text', async (t) => {
    t.allow(400, 404);
    for (const [, name] of names) {
        const page = await t.open(`${main}/#/`);
        await page.getByTestId('search').fill(`no ${name}`);
        await shows(page, `no ${name}`.trim());
        await page.goto(`${main}/#/image/lab/${path('none-' + name)}?member=${path(name)}`);
        await shows(page, name);
        await page.getByTestId('problem').first().waitFor();
        await unharmed(page);
        await page.goto(`${main}/#/${name}`);
        await page.getByTestId('images').first().waitFor();
        await unharmed(page);
        await page.context().close();
    }
});

testCase('hostile: files of an archive, to choose from and in its list', async (t) => {
    t.allow(400, 409, 300);
    const page = await t.open(image('hostile.tar'));
    const choices = page.getByTestId('choices');
    await choices.waitFor();
    for (const [, name] of names)
        await shows(page, name, choices);
    assert(await isolated(page) > 0);
    await fits(page);
    await t.shot(page, 'hostile-choices');
    for (const [kind, name] of names) {
        await page.goto(image('hostile.tar'));
        await choices.getByRole('button', { name, exact: true }).click();
        await page.getByTestId('members').locator('tr').nth(1).waitFor();
        assert.equal(new URLSearchParams(page.url().split('?')[1]).get('member'), name, kind);
        const rows = await page.getByTestId('member-row').getByRole('link').allTextContents();
        assert.deepEqual(rows.sort(), Object.values(bed.hostile).sort());
        await unharmed(page);
    }
    assert(await isolated(page) > 0);
});

testCase('hostile: names of snapshots and of partitions', async (t) => {
    const page = await t.open(image('top.qcow2'));
    const rows = page.getByTestId('snapshot-row');
    await soon(async () => await rows.count() === bed.snapshots.length, 'snapshots');
    for (const [i, name] of bed.snapshots.entries())
        await shows(page, name, rows.nth(i));
    const parts = page.getByTestId('partition-row');
    await soon(async () => await parts.count() === bed.labels.length, 'partitions');
    for (const [i, label] of bed.labels.entries()) {
        await shows(page, label, parts.nth(i));
        await shows(page, label, page.getByTestId('map-partition').nth(i));
    }
    await page.getByTestId('map-partition').nth(1).click();
    await shows(page, bed.labels[1], page.getByTestId('map-readout'));
});

testCase('hostile: what a field proposes, and a folder of such names', async (t) => {
    const page = await t.open(`${main}/#/`);
    await page.getByTestId('add-origin').selectOption('lab');
    for (const [, name] of names) {
        await page.getByTestId('add-path').fill('');
        await page.getByTestId('add-path').pressSequentially(name.slice(0, 3));
        const option = page.getByTestId('add-path-list').getByRole('option').filter({ hasText: name });
        await option.waitFor();
        await unharmed(page);
        await option.click();
        assert.equal(await page.getByTestId('add-path').inputValue(), name);
    }
});

testCase('hostile: a mirror\'s source, and the error that names it', async (t) => {
    t.allow(400, 404);
    const page = await t.open(`${bed.edge}/#/mirrors`);
    const made = [];
    try {
        for (const [i, [, name]] of names.entries()) {
            const source = `${bed.up}/disk/lab/${path(`none-${name}`)}`;
            const r = await ask(bed.edge, '/v1/mirrors', { method: 'POST', body: { name: `hostile-${i}`, source } });
            assert(r.status < 300, JSON.stringify(r.doc));
            made.push([`hostile-${i}`, source]);
        }
        for (const [name, source] of made) {
            const row = page.locator(`[data-testid=mirror-row][data-name="${name}"]`);
            await shows(page, source, row);
        }
        await page.getByTestId('mirror-name').fill('<img src=x onerror=alert(1)>');
        await page.getByTestId('mirror-source').fill('<script>alert(1)</script>');
        await page.getByTestId('mirror-add').click();
        await page.getByTestId('mirror-form').getByTestId('problem').waitFor();
        await unharmed(page);
        await fits(page);
    } finally {
        for (const [name] of made)
            await ask(bed.edge, `/v1/mirrors/${name}`, { method: 'DELETE' });
    }
});

testCase('hostile: what others asked for and was refused', async (t) => {
    for (const [, name] of names)
        assert.equal((await ask(main, `/v1/info/lab/${path(`refused-${name}`)}`)).status, 404);
    const page = await t.open(`${main}/#/gateway`);
    await page.getByTestId('errors').waitFor();
    const rows = await good(main, '/v1/errors');
    assert(rows.some((r) => r.path.includes('refused-')), JSON.stringify(rows.slice(0, 3)));
    for (const r of rows.filter((r) => r.path.includes('refused-')))
        await shows(page, r.path, page.getByTestId('errors'));
    await isolated(page);
    await fits(page);
});

testCase('hostile: right-to-left names keep their direction to themselves', async (t) => {
    const rtl = bed.hostile.rtl;
    await good(main, `/v1/info/lab/${path(rtl)}`);
    const page = await t.open(`${main}/#/?search=${path(rtl)}`);
    await shows(page, rtl, page.getByTestId('images'));
    assert(await isolated(page) > 0);
    await page.goto(image(rtl));
    await page.getByTestId('map').waitFor();
    assert(await isolated(page) > 0);
    // What stands beside such a name stands where it does beside any other.
    await page.goto(`${image('hostile.tar')}?member=${path(rtl)}`);
    await page.getByTestId('member-row').first().waitFor();
    assert(await isolated(page) > 1);
    const at = await page.getByTestId('member-row').evaluateAll((rows) => rows.map((row) => {
        const name = row.querySelector('a').getBoundingClientRect();
        const chip = row.querySelector('.chip').getBoundingClientRect();
        return { left: Math.round(name.left), isBehind: chip.left >= name.left };
    }));
    assert.equal(new Set(at.map((r) => r.left)).size, 1, JSON.stringify(at));
    assert(at.every((r) => r.isBehind), JSON.stringify(at));
    await t.shot(page, 'hostile-rtl');
});

testCase('hostile: very long names do not widen the page', async (t) => {
    const { long } = bed.hostile;
    await good(main, `/v1/info/lab/${path(long)}`);
    for (const width of [1280, 390]) {
        const page = await t.open(`${main}/#/?search=a-name`, { viewport: { width, height: 800 } });
        await shows(page, long, page.getByTestId('images'));
        await fits(page);
        await t.shot(page, `hostile-long-list-${width}`);
        await page.goto(image(long));
        await page.getByTestId('map').waitFor();
        await page.getByTestId('command').first().waitFor();
        await fits(page);
        await t.shot(page, `hostile-long-image-${width}`);
        await page.goto(`${image('hostile.tar')}?member=${path(long)}`);
        await page.getByTestId('member-row').first().waitFor();
        await fits(page);
        await page.context().close();
    }
});

testCase('hostile: behind all this the policy refuses scripts, styles, frames, markup and other hosts', async (t) => {
    const tries = {
        'style-src-attr': () => document.body.setAttribute('style', 'color: red'),
        'style-src-elem': () => document.head.append(Object.assign(document.createElement('style'), { textContent: 'p {}' })),
        'img-src': () => { new Image().src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw='; },
        'frame-src': () => document.body.append(Object.assign(document.createElement('iframe'), { src: 'data:text/html,x' })),
        'connect-src': () => fetch('http://127.0.0.1:9/').catch(() => {}),
        'base-uri': () => document.head.append(Object.assign(document.createElement('base'), { href: '/x/' })),
        'require-trusted-types-for': () => { document.body.innerHTML = '<p>x'; },
    };
    for (const [directive, act] of Object.entries(tries)) {
        const page = await t.open(`${main}/#/`);
        await page.getByTestId('images').first().waitFor();
        await page.evaluate(act).catch(() => {}); // some are refused by an exception as well
        const found = [];
        await soon(() => found.push(...t.faults(page)) && found.some((f) => f.startsWith(`policy ${directive} `)),
            `${directive} is refused`).catch((e) => assert.fail(`${directive}: ${e.message} ${found}`));
        await page.context().close();
        t.faults(page);
    }
});

testCase('hostile: a script within the page itself is refused by the policy it comes with', async (t) => {
    const page = await t.open(main, { route: (context) => context.route(`${main}/`, async (route) => {
        const response = await route.fetch();
        const text = await response.text();
        await route.fulfill({ response, body: text.replace('</body>',
            '<script>window.__ran = 1</script><p onclick="window.__ran = 2">click</p></body>') });
    }) });
    await page.getByTestId('images').first().waitFor();
    assert.equal(await page.locator('body > script').count(), 1);
    await page.locator('body > p[onclick]').click();
    const found = [];
    for (const directive of ['script-src-elem', 'script-src-attr'])
        await soon(() => found.push(...t.faults(page)) && found.some((f) => f.startsWith(`policy ${directive} inline`)), directive);
    assert.equal(await page.evaluate(() => window.__ran), undefined);
});

testCase('hostile: / and its files say what a browser must not do with them', async (t) => {
    const page = await t.open(main);
    await page.getByTestId('images').first().waitFor();
    const files = await page.evaluate(() => performance.getEntriesByType('resource')
        .map((e) => new URL(e.name).pathname).filter((p) => p.startsWith('/web/')));
    assert(files.length > 15, files.join());
    const types = { js: /^text\/javascript/, css: /^text\/css/, svg: /^image\/svg\+xml/, '/': /^text\/html; ?charset=utf-8/i };
    for (const file of ['/', ...new Set(files)]) {
        const { status, headers } = await ask(main, file);
        assert.equal(status, 200, file);
        assert.match(headers.get('content-type'), types[file === '/' ? file : file.split('.').pop()], file);
        assert.equal(headers.get('x-content-type-options'), 'nosniff', file);
        assert.equal(headers.get('referrer-policy'), 'no-referrer', file);
        assert.equal(headers.get('cross-origin-opener-policy'), 'same-origin', file);
        assert.equal(headers.get('cross-origin-resource-policy'), 'same-origin', file);
        assert.equal(headers.get('access-control-allow-origin'), null, file);
        assert.equal(headers.get('set-cookie'), null, file);
        const policy = new Map(headers.get('content-security-policy').split('; ').map((d) => [d.split(' ')[0], d]));
        for (const d of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
            "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"])
            assert.equal(policy.get(d.split(' ')[0]), d, file);
        assert(!/unsafe|\*|http/.test([...policy.values()].join()), file);
        // Asked for again it is not sent again, and a new program's is at once.
        assert.equal(headers.get('cache-control'), 'no-cache', file);
        assert.equal((await ask(main, file, { headers: { 'If-None-Match': headers.get('etag') } })).status, 304, file);
    }
    assert.equal((await ask(main, '/web/none.js')).status, 404);
    assert.equal((await ask(main, '/web/..%2findex.html')).status >= 400, true);
});

await run();
