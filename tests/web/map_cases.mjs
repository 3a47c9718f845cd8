// SPDX-License-Identifier: Apache-2.0
// The map of a disk: its sums, its colours, moving about in it, and what is alive.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { longTasks, observe } from './observers.mjs';
import { MIB, ask, by, exec, figure, read, says, text, viewOf } from './views.mjs';

const SIZE = 256 * MIB;
const shown = (page) => by(page, 'map').evaluate((c) => c.dataset.shown?.split('+').map(Number));
const isShown = (page, start, length, slack = 0) => soon(async () => {
    const now = await shown(page);
    assert(Math.abs(now[0] - start) <= slack && Math.abs(now[1] - length) <= slack, `${now}, not ${[start, length]}`);
    return true;
}, 'the map shows it');

async function openMap(t, ref, selectors, options) {
    const page = await t.open(viewOf(ref, selectors), options);
    await soon(() => shown(page), 'the map is drawn');
    return page;
}

// The colour at (x of an offset, y), and the style sheet's colours, as [r, g, b].
const colourAt = (page, off, y) => by(page, 'map').evaluate((canvas, [at, row]) => {
    const [start, length] = canvas.dataset.shown.split('+').map(Number);
    const scale = devicePixelRatio, x = Math.floor(((at - start) / length) * canvas.clientWidth) + 0.5;
    return [...canvas.getContext('2d').getImageData(x * scale, row * scale, 1, 1).data].slice(0, 3);
}, [off, y]);
const palette = (page) => page.evaluate(() => Object.fromEntries(['data', 'compressed', 'zero', 'hole', 'cached', 'read', 'soft'].map((name) => {
    const c = document.createElement('canvas').getContext('2d');
    c.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    c.fillRect(0, 0, 1, 1);
    return [name, [...c.getImageData(0, 0, 1, 1).data].slice(0, 3)];
})));

async function rowsOf(ref) {
    const kind = (e) => e.compressed ? 'compressed' : e.data ? 'data' : e.present ? 'zero' : 'hole';
    return (await ask(`/v1/extents/${ref}`)).extents.map((e) => ({ ...e, kind: kind(e) }));
}

for (const ref of ['lab/mid.qcow2', 'lab/compressed.qcow2', 'lab/gce.tar.gz'])
    testCase(`map: the sums and the colours of ${ref} are those of its extents`, async (t) => {
        const rows = await rowsOf(ref), sums = { data: 0, compressed: 0, zero: 0, hole: 0 };
        for (const e of rows)
            sums[e.kind] += e.length;
        assert.equal(Object.values(sums).reduce((a, b) => a + b), SIZE);
        for (const options of [{ colorScheme: 'light' }, { colorScheme: 'dark', deviceScaleFactor: 2 }]) {
            const page = await openMap(t, ref, {}, options), colours = await palette(page);
            for (const [kind, sum] of Object.entries(sums))
                await says(by(page, 'legend').locator('div', { has: page.locator(`.swatch.${kind}`) }).locator('dd'),
                    new RegExp(`^${await figure(page, 'bytes', sum)} \\(`));
            // In the middle of runs that are longer than a column or two.
            const seen = new Set();
            for (const e of rows.filter((r) => r.length > 3 * MIB && r.start > 0)) {
                await soon(async () => {
                    assert.deepEqual(await colourAt(page, e.start + e.length / 2, 60), colours[e.kind], `${e.kind} at ${e.start}`);
                    return true;
                }, 'its colour');
                seen.add(e.kind);
            }
            assert(seen.size >= 2, [...seen].join());
            await page.context().close();
        }
    });

testCase('map: the kinds are those that qemu-img tells', async (t) => {
    const { stdout } = await exec('qemu-img', ['map', '--output=json', `${bed.www}/mid.qcow2`]);
    const page = await openMap(t, 'lab/mid.qcow2'), colours = await palette(page);
    const seen = new Set();
    for (const e of JSON.parse(stdout).filter((r) => r.length > 3 * MIB && r.start > 0)) {
        const kind = e.data ? 'data' : e.present ? 'zero' : 'hole';
        seen.add(kind);
        await soon(async () => {
            assert.deepEqual(await colourAt(page, e.start + e.length / 2, 60), colours[kind], `${kind} at ${e.start}`);
            return true;
        }, 'its colour');
    }
    assert.deepEqual([...seen].sort(), ['data', 'hole', 'zero']);
});

testCase('map: buttons and keys zoom and move, and Enter shows the bytes', async (t) => {
    const page = await openMap(t, 'lab/disk.raw');
    const key = (name) => page.keyboard.press(name), map = by(page, 'map');
    assert(await by(page, 'zoom-out').isDisabled() && await by(page, 'zoom-all').isDisabled());
    await by(page, 'zoom-in').click();
    await isShown(page, SIZE * 3 / 8, SIZE / 4);
    await by(page, 'zoom-in').click(); // about where the cursor is: the view's first byte
    await isShown(page, SIZE * 3 / 8, SIZE / 16);
    await by(page, 'zoom-out').click();
    await by(page, 'zoom-all').click();
    await isShown(page, 0, SIZE);
    await map.focus();
    await key('End');
    await key('+');
    await isShown(page, SIZE / 2, SIZE / 2, 1);
    await key('+');
    await isShown(page, SIZE * 3 / 4, SIZE / 4, 1);
    await key('-');
    await isShown(page, SIZE / 2, SIZE / 2, 1);
    await key('Home');
    await says(by(page, 'map-readout'), /^Offset 128 MiB \(0x8000000, sector 262,144\)/);
    assert.equal(await text(page.locator('#announce')), await text(by(page, 'map-readout')));
    await key('ArrowRight');
    await says(by(page, 'map-readout'), /^Offset 130 MiB \(0x8200000/); // a 64th
    await key('Shift+ArrowRight');
    await says(by(page, 'map-readout'), /^Offset 146 MiB \(0x9200000/); // an eighth
    await key('ArrowLeft');
    await says(by(page, 'map-readout'), /^Offset 144 MiB \(0x9000000.*partition 2 “<i>root<\/i>"'”$/);
    await key('Enter');
    await soon(async () => (await by(page, 'hex-offset').inputValue()) === '0x9000000', 'its bytes');
    // Out of the view on the left: it comes along.
    await key('Home');
    await key('ArrowLeft');
    await isShown(page, 126 * MIB - 64 * MIB, 128 * MIB, 2);
    await key('0');
    await isShown(page, 0, SIZE);
    for (let i = 0; i < 40; i++)
        await key('+'); // to the end of what there is to see
    await soon(async () => (await shown(page))[1] === 4096, 'a page of memory');
    assert(await by(page, 'zoom-in').isDisabled());
});

testCase('map: dragging, clicking twice, the wheel and the overview move it', async (t) => {
    const page = await openMap(t, 'lab/disk.raw');
    const map = by(page, 'map'), { width } = await map.evaluate((c) => ({ width: c.clientWidth })), pixel = SIZE / width;
    await map.dblclick({ position: { x: width / 2, y: 50 } });
    await isShown(page, SIZE * 3 / 8, SIZE / 4, 2 * pixel);
    const [start, length] = await shown(page);
    await map.hover({ position: { x: 400, y: 50 } });
    await page.mouse.down();
    const box = await map.boundingBox();
    await page.mouse.move(box.x + 350, box.y + 50, { steps: 4 });
    await page.mouse.move(box.x + 300, box.y + 50, { steps: 4 });
    await page.mouse.up();
    await isShown(page, start + 100 * length / width, length, 3 * length / width);
    await by(page, 'overview').click({ position: { x: width / 4, y: 4 } });
    await isShown(page, SIZE / 4 - length / 2, length, 2 * pixel);
    // The wheel is the page's until somebody is in the map.
    await map.focus();
    await map.hover({ position: { x: width / 2, y: 50 } });
    await page.mouse.wheel(0, -100);
    await isShown(page, SIZE / 4 - length * 0.4, length * 0.8, 2 * pixel);
    await page.mouse.wheel(0, 100);
    await isShown(page, SIZE / 4 - length / 2, length, 2 * pixel);
});

testCase('map: a partition is shown with a little around it', async (t) => {
    const page = await openMap(t, 'lab/disk.raw');
    const { partitions } = await ask('/v1/partitions/lab/disk.raw');
    const buttons = by(page, 'map-partition');
    await soon(async () => (await buttons.count()) === partitions.length, 'partitions');
    const clamp = (p) => [Math.max(0, Math.min(p.start - p.length * 0.02, SIZE - p.length * 1.04)), p.length * 1.04];
    await buttons.nth(0).click();
    await isShown(page, ...clamp(partitions[0]), 2);
    await by(page, 'zoom-all').click();
    await isShown(page, 0, SIZE);
    await by(page, 'partition-show').nth(1).click();
    await isShown(page, ...clamp(partitions[1]), 2);
});

testCase('map: what others read and what is in memory is seen while they do', async (t) => {
    const page = await openMap(t, 'lab/gce.tar.gz');
    const colours = await palette(page), off = 200 * MIB;
    // As finely as the page asks: between its samples the gateway guesses.
    const buckets = await by(page, 'map').evaluate((c) => c.clientWidth);
    const cached = async () => (await ask(`/v1/extents/lab/gce.tar.gz?buckets=${buckets}&context=cache`))
        .cached.reduce((a, b) => a + b);
    const foot = await by(page, 'map').evaluate((c) => c.clientHeight - 22 - 1); // over the axis
    const before = await colourAt(page, off, 3);
    // Now and then, as long as somebody looks.
    await soon(async () => {
        await read('lab/gce.tar.gz', off, 8 * MIB);
        const now = await colourAt(page, off + 2 * MIB, 3);
        assert.match(await text(by(page, 'legend-reads')), /^[1-9]\d* spans?$/);
        // Between what was there and the colour of reads, and nearer to that.
        const distance = (a, b) => Math.hypot(...a.map((v, i) => v - b[i]));
        assert(distance(now, colours.read) < distance(before, colours.read) / 2, `${now} at the read`);
        return true;
    }, 'the read is seen');
    await soon(async () => (await text(by(page, 'legend-cached'))) === await figure(page, 'bytes', await cached()), 'what is in memory');
    assert(await cached() > 0);
    const [e] = (await ask('/v1/extents/lab/gce.tar.gz?buckets=64&context=cache')).cached.map((n, i) => [n, i])
        .filter(([n]) => n >= SIZE / 64).map(([, i]) => (i + 0.5) * SIZE / 64);
    await soon(async () => {
        assert.deepEqual(await colourAt(page, e, foot), colours.cached, `in memory at ${e}`);
        return true;
    }, 'the colour of what is in memory');
    assert.equal(await text(by(page, 'live-trouble')), '');
});

testCase('map: a million extents come as a picture at once, and hold nothing up', async (t) => {
    // Others work on this machine too, and a gateway may be slow for its sanitizers: what
    // it takes itself is not the page's, and slow is what is slow every time.
    let took, worst, own;
    for (let i = 0; i < 3; i++) {
        const began = performance.now();
        await ask('/v1/extents/lab/million.qcow2?buckets=1280');
        own = performance.now() - began;
        const page = await t.open(bed.main + '/#/', { init: [observe] });
        const asked = performance.now();
        await page.goto(viewOf('lab/million.qcow2'));
        await soon(() => shown(page), 'the map is drawn', 60000);
        took = performance.now() - asked;
        await says(by(page, 'runs'), /^1,048,57\d extents in view/);
        await by(page, 'zoom-in').click();
        await isShown(page, 192 * MIB, 128 * MIB);
        await says(by(page, 'runs'), /^262,14\d extents in view/);
        worst = (await longTasks(page))[0]?.ms ?? 0;
        await page.context().close();
        if (took < 2000 + 2 * own && worst <= 200)
            return;
    }
    assert.fail(`${took} ms to the picture, of the gateway ${own} ms; a task of ${worst} ms`);
});

await run();
