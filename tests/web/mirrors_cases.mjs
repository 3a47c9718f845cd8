// SPDX-License-Identifier: Apache-2.0
// #/mirrors and #/mirrors/NAME: what is told of a mirror is what the API has of it, and
// what is done there is done.
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { ask, begin, good, refusal, says } from './own_gateway.mjs';

const edge = bed.edge;
const upstream = (path) => `${bed.up}/disk/lab/${path}`;
const mirrorOf = (name) => good(edge, `/v1/mirrors/${name}`);
const list = (t) => t.open(`${edge}/#/mirrors`);
const rowOf = (page, name) => page.locator(`[data-testid=mirror-row][data-name="${name}"]`);
const part = (page, id) => page.getByTestId(id);

// Bytes as the page writes them, back; a figure of three digits.
function bytesOf(text) {
    const m = /([\d.]+) ([KMGT]i)?B/.exec(text);
    assert(m, `"${text}" has no figure in bytes`);
    return Number(m[1]) * 1024 ** ' KMGT'.indexOf(m[2]?.[0] ?? ' ');
}

// A mirror for one case; it is removed behind it.  Without a source: of an image that is
// nowhere else, so that all of it has to be fetched, and that takes minutes.
async function withMirror(entry, fn) {
    const file = entry.source ? null : join(bed.folder, `${entry.name}.raw`);
    if (file) {
        writeFileSync(file, randomBytes(32 << 20));
        entry = { source: upstream(`${entry.name}.raw`), bandwidth: 65536, ...entry };
    }
    await good(edge, '/v1/mirrors', { method: 'POST', body: entry });
    try {
        return await fn(entry.name);
    } finally {
        await ask(edge, `/v1/mirrors/${entry.name}`, { method: 'DELETE' });
        if (file)
            rmSync(file);
    }
}

testCase('mirrors: each state is shown, with how much is here', async (t) => {
    const page = await list(t);
    for (const [state, name] of Object.entries(bed.mirrors)) {
        const row = rowOf(page, name);
        await row.waitFor();
        assert.equal(await part(row, 'mirror-state').textContent(), state);
        assert((await row.textContent()).includes((await mirrorOf(name)).source));
        const bar = row.getByRole('progressbar');
        assert.equal(await bar.getAttribute('aria-label'), `How much of ${name} is here`);
        assert.equal(await bar.getAttribute('aria-valuetext'), await part(row, 'mirror-progress').textContent());
    }
    const whole = await mirrorOf('whole');
    assert.match(await part(rowOf(page, 'whole'), 'mirror-progress').textContent(), /^100 % · ([\d.]+ \w+) of \1$/);
    assert.equal(await rowOf(page, 'whole').getByRole('progressbar').getAttribute('aria-valuenow'), '100');
    const fetched = bytesOf(await part(rowOf(page, 'whole'), 'mirror-fetched').textContent());
    assert(Math.abs(fetched / whole.bytes_fetched - 1) < 0.02, `${fetched} of ${whole.bytes_fetched}`);
    assert.match(await part(page, 'mirrors-count').textContent(), /^\d+ mirrors$/);
    await t.shot(page, 'mirrors-states');
});

testCase('mirrors: the error of one that failed is in the API\'s words, and on no other', async (t) => {
    const page = await list(t);
    const row = rowOf(page, 'unsigned');
    const { error } = await mirrorOf('unsigned');
    assert(error.length > 5, error);
    await row.waitFor();
    assert.equal(await part(row, 'mirror-error').textContent(), error);
    assert(await part(row, 'mirror-error').isVisible());
    assert(!await part(rowOf(page, 'whole'), 'mirror-error').isVisible());
    await part(row, 'mirror-link').click();
    await soon(async () => await part(page, 'mirror-error').textContent() === error, 'its own page says it, too');
});

testCase('mirrors: one that is under way moves, with rate and time left', async (t) => {
    const page = await list(t);
    const row = rowOf(page, 'slow');
    const words = () => part(row, 'mirror-progress').textContent();
    const before = await soon(words, 'it has words');
    await soon(async () => await words() !== before, 'the words move by themselves', 40000);
    await soon(async () => /^[\d.]+ [KM]?i?B\/s$/.test(await part(row, 'mirror-rate').textContent()), 'a rate', 40000);
    await soon(async () => /\d (h|min|s)/.test(await part(row, 'mirror-left').textContent()), 'a time', 40000);
    const shown = bytesOf(await words());
    const now = (await mirrorOf('slow')).bytes_local;
    assert(shown <= now * 1.01 && shown > 0, `${shown} of ${now}`);
    assert.equal(await part(rowOf(page, 'whole'), 'mirror-rate').textContent(), '–');
});

testCase('mirrors: pause and resume in the list and on its own page, and the focus stays', (t) =>
    withMirror({ name: 'stop-and-go' }, async (name) => {
        const page = await list(t);
        const state = (at, want) => soon(async () =>
            await part(at, 'mirror-state').textContent() === want && (await mirrorOf(name)).state === want, `it is ${want}`);
        const row = rowOf(page, name);
        await state(row, 'mirroring');
        await part(row, 'mirror-pause').focus();
        await page.keyboard.press('Enter');
        await state(row, 'paused');
        assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'mirror-resume');
        await page.keyboard.press('Enter');
        await state(row, 'mirroring');
        assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'mirror-pause');
        await part(row, 'mirror-link').click();
        await part(page, 'mirror-title').waitFor();
        await part(page, 'mirror-pause').click();
        await state(page, 'paused');
        assert(!await part(page, 'mirror-pause').isVisible());
        // Somebody else lets it go on: told without a click.
        await good(edge, `/v1/mirrors/${name}`, { method: 'POST', body: { paused: false } });
        await state(page, 'mirroring');
    }));

testCase('mirrors: one that is added is in the list at once and becomes complete', async (t) => {
    const page = await list(t);
    try {
        await part(page, 'mirror-name').fill('added');
        await part(page, 'mirror-source').fill(upstream('one.raw'));
        await part(page, 'mirror-more').locator('summary').click();
        await part(page, 'mirror-new-priority').fill('−7');
        await part(page, 'mirror-new-bandwidth').fill('20M');
        await part(page, 'mirror-new-follow').fill('3600');
        await part(page, 'mirror-add').click();
        const row = rowOf(page, 'added');
        await row.waitFor();
        assert.equal(await part(page, 'mirror-name').inputValue(), '');
        const made = await mirrorOf('added');
        assert.deepEqual([made.source, made.priority, made.bandwidth, made.follow],
            [upstream('one.raw'), -7, 20 << 20, 3600]);
        await soon(async () => await part(row, 'mirror-state').textContent() === 'complete', 'it is complete', 40000);
        assert.equal(await page.locator('#announce').textContent(), 'added is being mirrored');
        await page.goto(`${edge}/#/image/added`);
        await part(page, 'image-title').waitFor();
    } finally {
        await ask(edge, '/v1/mirrors/added', { method: 'DELETE' });
    }
});

testCase('mirrors: what cannot be added is refused in the API\'s words, and nothing typed is lost', async (t) => {
    t.allow(400, 403, 404, 409);
    const page = await list(t);
    await rowOf(page, 'whole').waitFor();
    const before = (await good(edge, '/v1/mirrors')).length;
    const seen = new Set();
    for (const [name, source, more] of [
        ['whole', upstream('one.raw')], // the name is taken
        ['outside', 'http://127.0.0.1:9/disk/lab/x.raw'], // of no origin
        ['nowhere', 'nobody/x.raw'],
        ['a name with spaces', upstream('one.raw')],
        ['scheme', 'ftp://127.0.0.1/x.raw'],
        ['prior', upstream('one.raw'), '1000'],
    ]) {
        await part(page, 'mirror-name').fill(name);
        await part(page, 'mirror-source').fill(source);
        if (more) {
            await part(page, 'mirror-more').locator('summary').click();
            await part(page, 'mirror-new-priority').fill(more);
        }
        const words = await refusal(edge, '/v1/mirrors', { method: 'POST',
            body: { name, source, ...(more ? { priority: Number(more) } : {}) } });
        seen.add(words.text);
        await part(page, 'mirror-add').click();
        const problem = part(part(page, 'mirror-form'), 'problem');
        await soon(async () => (await problem.textContent()).startsWith(words.text), words.text);
        await says(problem, words);
        assert.equal(await part(page, 'mirror-source').inputValue(), source);
        assert.equal(await rowOf(page, name).count(), name === 'whole' ? 1 : 0);
    }
    assert(seen.size >= 4, [...seen].join('\n'));
    assert.equal((await good(edge, '/v1/mirrors')).length, before);
});

testCase('mirrors: what has to be typed is asked for before anything is sent', async (t) => {
    const page = await list(t);
    const sent = [];
    page.on('request', (r) => r.method() === 'POST' && sent.push(r.url()));
    await part(page, 'mirror-name').fill('unfinished');
    await part(page, 'mirror-add').click();
    assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'mirror-source');
    assert.equal(sent.length, 0);
});

testCase('mirrors: removing asks first; keep keeps, Escape keeps, remove removes', (t) =>
    withMirror({ name: 'unwanted', source: upstream('one.raw') }, async (name) => {
        const page = await list(t);
        const row = rowOf(page, name);
        const dialog = part(page, 'mirror-remove-dialog');
        for (const keep of [() => part(page, 'mirror-remove-no').click(), () => page.keyboard.press('Escape'),
            () => page.keyboard.press('Enter')]) { // what is safe has the focus
            await part(row, 'mirror-remove').click();
            await dialog.waitFor();
            assert.match(await dialog.textContent(), /^Remove unwanted\?/);
            await keep();
            await dialog.waitFor({ state: 'detached' });
            assert.equal((await mirrorOf(name)).name, name);
        }
        await part(row, 'mirror-remove').click();
        await part(page, 'mirror-remove-yes').click();
        await row.waitFor({ state: 'detached' });
        assert.equal((await ask(edge, `/v1/mirrors/${name}`)).status, 404);
        assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
    }));

testCase('mirrors: removed from its own page it leads back to the list', (t) =>
    withMirror({ name: 'leaving', source: upstream('one.raw') }, async (name) => {
        t.allow(404); // its events may be asked for once more
        const page = await t.open(`${edge}/#/mirrors/${name}`);
        await part(page, 'mirror-remove').click();
        await part(page, 'mirror-remove-yes').click();
        await soon(() => page.url().endsWith('#/mirrors'), 'back at the list');
        await rowOf(page, 'whole').waitFor();
        assert.equal(await rowOf(page, name).count(), 0);
    }));

testCase('mirrors: the details are those of the API', async (t) => {
    const page = await t.open(`${edge}/#/mirrors/whole`);
    const row = await mirrorOf('whole');
    const facts = part(page, 'mirror-facts');
    const value = (label) => facts.locator('dt', { hasText: new RegExp(`^${label}$`) }).locator('+ dd').textContent();
    await facts.waitFor();
    assert.equal(await value('Source'), row.source);
    assert.equal(await value('Version served'), row.root);
    assert.match(await value('Size of the disk'), new RegExp(`${row.virtual_size.toLocaleString('en')} bytes`));
    assert.equal(await value('Requests to the source'), row.requests.toLocaleString('en'));
    assert.equal(await value('Complete since'), new Date(row.completed).toISOString().slice(0, 19).replace('T', ' '));
    assert.match(await value('Verified'), row.verified ? /^each leaf/ : /^no/);
    for (const [id, n] of [['mirror-local', row.bytes_local], ['mirror-fetched', row.bytes_fetched]])
        assert(Math.abs(bytesOf(await part(page, id).textContent()) / n - 1) < 0.02, id);
    for (const key of ['follow', 'priority', 'bandwidth'])
        assert.equal(await part(page, `mirror-change-${key}`).inputValue(), String(row[key]));
    await part(page, 'mirror-image').click();
    await soon(async () => await part(page, 'image-title').textContent() === 'whole', 'its disk is a click away');
});

testCase('mirrors: what happened to one is told where the API has it', async (t) => {
    const page = await t.open(`${edge}/#/mirrors/whole`);
    await part(page, 'mirror-facts').waitFor();
    const { history = [] } = await mirrorOf('whole');
    await soon(async () => await part(page, 'mirror-history').locator('tbody tr').count() === history.length,
        'a row for each event');
    assert.equal(await page.getByText('Nothing has been noted of it yet.').isVisible(), history.length === 0);
    for (const [i, e] of history.entries())
        assert((await part(page, 'mirror-history').locator('tbody tr').nth(i).textContent()).includes(e.event));
});

testCase('mirrors: priority, bandwidth and follow are changed, and what is wrong is said', (t) =>
    withMirror({ name: 'changing' }, async (name) => {
        t.allow(400);
        const page = await t.open(`${edge}/#/mirrors/${name}`);
        const field = (key) => part(page, `mirror-change-${key}`);
        await soon(async () => await field('bandwidth').inputValue() === '65536', 'it shows what holds');
        await field('priority').fill('42');
        await field('bandwidth').fill('128K');
        await field('follow').fill('60');
        await part(page, 'mirror-save').click();
        await soon(async () => {
            const m = await mirrorOf(name);
            return m.priority === 42 && m.bandwidth === 131072 && m.follow === 60;
        }, 'the gateway has it');
        await soon(async () => await page.locator('#announce').textContent() === `${name} was changed`, 'and says so');
        await field('priority').fill('lots');
        const words = await refusal(edge, `/v1/mirrors/${name}`, { method: 'POST',
            body: { follow: 60, priority: 'lots', bandwidth: 131072 } });
        await part(page, 'mirror-save').click();
        await says(part(page, 'problem'), words);
        assert.equal(await field('priority').inputValue(), 'lots');
        assert.equal((await mirrorOf(name)).priority, 42);
    }));

testCase('mirrors: the page of one moves while it is watched, and says when it is gone', (t) =>
    withMirror({ name: 'watched' }, async (name) => {
        t.allow(404);
        const page = await t.open(`${edge}/#/mirrors/${name}`);
        const here = () => part(page, 'mirror-local').textContent();
        await part(page, 'mirror-local').waitFor();
        const first = await here();
        const next = await soon(async () => await here() !== first && here(), 'more is here', 40000);
        await soon(async () => ![first, next].includes(await here()), 'and more', 40000);
        await good(edge, `/v1/mirrors/${name}`, { method: 'DELETE' });
        await says(part(page, 'problem'), await refusal(edge, `/v1/mirrors/${name}`));
        assert(!await part(page, 'mirror-local').isVisible());
    }));

testCase('mirrors: a gateway with none says how to have one', async (t) => {
    const page = await t.open(`${bed.up}/#/mirrors`);
    const guide = part(page, 'mirror-guide');
    await guide.waitFor();
    assert.match(await guide.textContent(), /platter mirror add/);
    await t.shot(page, 'mirrors-guide');
});

testCase('mirrors: a gateway without a state folder refuses in the API\'s words', async (t) => {
    t.allow(501);
    const own = await begin();
    const page = await t.open(`${own.url}/#/mirrors`);
    const entry = { name: 'new', source: 'lab/one.raw' };
    const words = await refusal(own.url, '/v1/mirrors', { method: 'POST', body: entry });
    await part(page, 'mirror-name').fill(entry.name);
    await part(page, 'mirror-source').fill(entry.source);
    await part(page, 'mirror-add').click();
    await says(part(page, 'problem').last(), words);
    assert.equal(words.status, 501);
    await page.context().close();
    await own.stop();
});

await run();
