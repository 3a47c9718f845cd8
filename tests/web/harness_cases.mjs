// SPDX-License-Identifier: Apache-2.0
// The harness itself: what it promises to find, it finds, and nothing in a good page.
import http from 'node:http';
import { assert, run, sleep, soon, testCase } from './harness.mjs';
import { accessible } from './axe.mjs';
import { walk } from './keyboard.mjs';
import { fits } from './matrix.mjs';
import { forget, longTasks, observe, shifts } from './observers.mjs';

const GOOD = `<h1>Disks</h1><p>One of them.</p><label>Name <input name="n"></label>
<button>Go</button><a href="/good">again</a>`;
const PAGES = {
    good: GOOD,
    console: GOOD + '<script>console.error("no")</script>',
    thrown: GOOD + '<script>nowhere.x = 1</script>',
    rejected: GOOD + '<script>Promise.reject(new Error("no one listens"))</script>',
    inline: GOOD + '<p style="color: red">styled</p>',
    alert: GOOD + '<script>alert(1)</script>',
    missing: GOOD + '<script>fetch("/nothing")</script>',
    refused: GOOD + '<script>fetch("http://127.0.0.1:9/").catch(() => {})</script>',
    shift: GOOD + '<script>setTimeout(() => document.querySelector("h1").before(Object.assign(' +
        'document.createElement("p"), {textContent: "late", style: "height: 200px"})), 300)</script>',
    long: GOOD + '<script>setTimeout(() => { for (const t = Date.now(); Date.now() < t + 200;); }, 100)</script>',
    unlabelled: GOOD + '<input name="x"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    unmarked: '<style>a { outline: none } a:focus-visible { outline: none }</style>' + GOOD,
    caught: GOOD + '<script>document.querySelector("a").addEventListener("blur", (e) => e.target.focus())</script>' +
        '<button>never</button>',
    unseen: GOOD + '<button style="position: absolute; left: -900px">away</button>',
    wide: GOOD + '<p style="width: 3000px">wide</p>',
};

const server = http.createServer((q, r) => {
    const name = q.url.slice(1);
    if (!(name in PAGES))
        return r.writeHead(404).end();
    r.setHeader('Content-Type', 'text/html; charset=utf-8');
    if (name === 'inline')
        r.setHeader('Content-Security-Policy', "default-src 'self'");
    r.end(`<!doctype html><html lang="en"><head><title>${name}</title><link rel="icon" href="data:,"></head>` +
        `<body><main>${PAGES[name]}</main></body></html>`);
});
await new Promise((r) => server.listen(0, '127.0.0.1', r));
const at = (name) => `http://127.0.0.1:${server.address().port}/${name}`;

testCase('harness: a good page has no fault, no axe finding, no shift, and Tab goes through it', async (t) => {
    const page = await t.open(at('good'), { init: [observe] });
    await accessible(page);
    assert.deepEqual((await walk(page)).map((s) => s.tag), ['input', 'button', 'a']);
    await fits(page);
    assert.equal((await shifts(page)).total, 0);
    await sleep(100);
    assert.deepEqual(t.faults(page), []);
});

testCase('harness: errors, exceptions, violations, dialogs, statuses and hosts are faults', async (t) => {
    for (const [name, what] of Object.entries({
        console: /^console no/, thrown: /^exception .*nowhere/, rejected: /^exception .*no one listens/,
        inline: /^policy style-src-attr inline/, alert: /^dialog alert 1/,
        missing: /^status 404 GET .*\/nothing/, refused: /^host http:\/\/127.0.0.1:9/,
    })) {
        const page = await t.open(at(name));
        const found = [];
        await soon(() => found.push(...t.faults(page)) && found.some((f) => what.test(f)),
            `${name} has ${what}`, 5000).catch((e) => assert.fail(`${e.message}: ${found}`));
        await sleep(50);
        await page.context().close();
        t.faults(page);
    }
});

testCase('harness: what a case announced is none, and only that', async (t) => {
    t.allow(404);
    const page = await t.open(at('missing'));
    await page.waitForLoadState('networkidle');
    assert.deepEqual(t.faults(page), []);
    await page.evaluate(() => console.error('another'));
    await soon(() => t.faults(page).length, 'the other one is a fault');
});

testCase('harness: a shift and a long task are seen, and forgotten', async (t) => {
    let page = await t.open(at('shift'), { init: [observe] });
    const moved = await soon(async () => (await shifts(page)).total > 0.05 && shifts(page), 'it moved');
    assert(moved.rows[0].what.length > 0);
    await forget(page);
    assert.equal((await shifts(page)).total, 0);
    page = await t.open(at('long'), { init: [observe] });
    await soon(async () => (await longTasks(page))[0]?.ms >= 150, 'it took long');
});

testCase('harness: axe, the walk and the measure find what is wrong', async (t) => {
    const page = await t.open(at('unlabelled'));
    await assert.rejects(accessible(page), /label.*image-alt|image-alt.*label/s);
    for (const [name, check, what] of [
        ['unmarked', walk, /nothing shows that it is focused: <a/], ['caught', walk, /caught at <a|not reached/],
        ['unseen', walk, /not to be seen: <button/], ['wide', fits, /3000|wide/]]) {
        await page.goto(at(name));
        await assert.rejects(check(page), what);
    }
});

await run();
