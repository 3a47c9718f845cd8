// SPDX-License-Identifier: Apache-2.0
// One image: its stack, what is in it, and its bytes.
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { MIB, by, bytesOf, exec, says, text, viewOf } from './views.mjs';

const hashIs = (page, hash) => soon(async () => new URL(page.url()).hash === hash, `the address is ${hash}`);
const SECTOR = /^Sector/;

// What the table of bytes shows, as bytes; and its offsets.
const hexOf = (page) => by(page, 'hex').locator('tbody tr').evaluateAll((rows) => ({
    bytes: rows.flatMap((r) => r.cells[1].textContent.trim().split(/\s+/).map((b) => parseInt(b, 16))),
    text: rows.map((r) => r.cells[2].textContent).join(''),
    offsets: rows.map((r) => parseInt(r.cells[0].textContent, 16)),
}));

// Looks at an offset; the bytes, and that no other byte was asked for.
async function look(page, offset, at, length) {
    const asked = page.waitForRequest((r) => new URL(r.url()).pathname.startsWith('/disk/') &&
        r.headers().range === `bytes=${at}-${at + length - 1}`);
    await by(page, 'hex-offset').fill(offset);
    await by(page, 'hex-go').click();
    const answer = await (await asked).response();
    assert.equal(answer.status(), 206);
    assert.equal(answer.headers()['content-length'], String(length));
    return soon(async () => {
        const hex = await hexOf(page);
        assert.equal(hex.offsets[0], at);
        assert.equal(hex.bytes.length, length);
        return hex;
    }, 'the bytes are shown');
}
const same = (hex, bytes) => assert.deepEqual(hex.bytes, [...bytes]);

testCase('image: the layers of an archive, an appliance and a chain, from the disk to the source', async (t) => {
    for (const [ref, drivers, kinds] of [
        ['lab/gce.tar.gz', ['tar', 'gzip', 'file'], ['archive', 'compression', 'source']],
        ['lab/box.ova', ['vmdk', 'tar', 'file'], ['image format', 'archive', 'source']],
        ['lab/base.qcow2', ['qcow2', 'file'], ['image format', 'source']],
        ['web/gce.tar.gz', ['tar', 'gzip', 'curl'], ['archive', 'compression', 'source']]]) {
        const page = await t.open(viewOf(ref));
        const layers = by(page, 'layer');
        await layers.first().waitFor();
        assert.deepEqual(await layers.evaluateAll((all) => all.map((e) => e.dataset.driver)), drivers);
        assert.deepEqual(await layers.locator('.layer-head .chip').allTextContents(), kinds);
        assert.match(await text(by(page, 'stack').locator('.guest')), /256 MiB, 268,435,456 bytes/);
        await page.context().close();
    }
});

testCase('image: the chain of backing files is one to click through', async (t) => {
    const page = await t.open(viewOf('lab/top.qcow2'));
    const chain = by(page, 'backing');
    await soon(async () => (await chain.allTextContents()).join() === 'mid.qcow2 qcow2, 256 MiB,base.qcow2 qcow2, 256 MiB', 'both');
    await chain.nth(0).getByRole('link').click();
    await hashIs(page, '#/image/lab/mid.qcow2');
    await says(by(page, 'image-title'), /^lab\/mid\.qcow2$/);
    await soon(async () => (await chain.allTextContents()).join() === 'base.qcow2 qcow2, 256 MiB', 'one is left');
    await chain.getByRole('link').click();
    await hashIs(page, '#/image/lab/base.qcow2');
    await says(by(page, 'image-title'), /^lab\/base\.qcow2$/);
    await by(page, 'layer').first().waitFor();
    assert.equal(await chain.count(), 0);
});

testCase('image: the bytes are the disk\'s, and no other byte is asked for', async (t) => {
    const ranges = [];
    const page = await t.open();
    page.on('request', (r) => {
        if (new URL(r.url()).pathname.startsWith('/disk/'))
            ranges.push(r.headers().range);
    });
    await page.goto(viewOf('lab/gce.tar.gz'));
    await says(by(page, 'hex-status'), /^Sector 0 at 0 B · 512 bytes read$/);
    const first = await bytesOf('disk.raw', 0, 512);
    same(await hexOf(page), first);
    assert.equal((await hexOf(page)).text, [...first].map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '·')).join(''));
    assert(await by(page, 'hex-before').isDisabled());
    for (const [offset, at] of [['0x200', 512], ['50M', 50 * MIB], ['98305s', 98305 * 512], ['1.5K', 1536], ['1_048_577', MIB + 1]])
        same(await look(page, offset, at, 512), await bytesOf('disk.raw', at, 512));
    const asked = ranges.length;
    for (const [id, at] of [['hex-behind', MIB + 513], ['hex-behind', MIB + 1025], ['hex-before', MIB + 513]]) {
        await by(page, id).click();
        await soon(async () => (await hexOf(page)).offsets[0] === at, `at ${at}`);
        same(await hexOf(page), await bytesOf('disk.raw', at, 512));
    }
    assert.deepEqual(ranges.slice(asked), [MIB + 513, MIB + 1025, MIB + 513].map((at) => `bytes=${at}-${at + 511}`));
    for (const range of ranges) {
        const [from, to] = range.slice(6).split('-').map(Number);
        assert.equal(to - from, 511);
    }
});

testCase('image: the end of a disk that ends within a sector', async (t) => {
    const page = await t.open(viewOf('lab/odd.raw')), size = MIB + 777;
    await says(by(page, 'hex-status'), SECTOR);
    same(await look(page, `${MIB + 512}`, MIB + 512, 265), await bytesOf('odd.raw', MIB + 512, 265));
    assert.match(await text(by(page, 'hex-status')), /265 bytes read$/);
    assert(await by(page, 'hex-behind').isDisabled());
    same(await look(page, `${size - 1}`, size - 1, 1), await bytesOf('odd.raw', size - 1, 1));
    // One that is smaller than a sector.
    await page.goto(viewOf('lab/notes.txt'));
    await says(by(page, 'hex-status'), /13 bytes read$/);
    assert.equal((await hexOf(page)).text, 'not an image·');
});

testCase('image: an offset that is none is refused in words, and nothing is asked for', async (t) => {
    const page = await t.open(viewOf('lab/odd.raw'));
    await says(by(page, 'hex-status'), SECTOR);
    const ranges = [];
    page.on('request', (r) => r.headers().range && ranges.push(r.headers().range));
    for (const [offset, what] of [['', /^an offset is like/], ['far', /^an offset is like/], ['-1', /^an offset is like/],
        ['0x', /^an offset is like/], ['1e3', /^an offset is like/], ['<b>1</b>', /^an offset is like/],
        [`${MIB + 777}`, /^the disk ends at 0x100309$/], ['99E', /^the disk ends at/], ['9'.repeat(400), /^the disk ends at/]]) {
        await by(page, 'hex-offset').fill(offset);
        await by(page, 'hex-go').click();
        await says(by(page, 'problem'), what);
    }
    assert.deepEqual(ranges, []);
    same(await look(page, '0x10', 16, 512), await bytesOf('odd.raw', 16, 512));
    assert.equal(await by(page, 'problem').count(), 0);
});

testCase('image: a snapshot is shown as it was, and taken away again', async (t) => {
    const page = await t.open(viewOf('lab/top.qcow2'));
    const rows = by(page, 'snapshot-row'), at = 90 * MIB;
    await soon(async () => (await rows.count()) === 2, 'the snapshots');
    assert.deepEqual(await rows.locator('a').allTextContents(), bed.snapshots);
    await says(by(page, 'hex-status'), SECTOR);
    // Written after the first was taken.
    same(await look(page, '90M', at, 512), Buffer.alloc(512, 3));
    await rows.nth(0).locator('a').click();
    await hashIs(page, '#/image/lab/top.qcow2?snapshot=1');
    await says(by(page, 'selector'), /^snapshot=1 ✕$/);
    await says(by(page, 'hex-status'), SECTOR);
    same(await look(page, '90M', at, 512), await bytesOf('disk.raw', at, 512));
    assert.equal(await by(page, 'snapshot-row').nth(0).getAttribute('aria-current'), 'true');
    await rows.nth(1).locator('a').click();
    await says(by(page, 'selector'), /^snapshot=2 ✕$/);
    await says(by(page, 'hex-status'), SECTOR);
    same(await look(page, '90M', at, 512), Buffer.alloc(512, 3));
    await by(page, 'selector').click();
    await hashIs(page, '#/image/lab/top.qcow2');
    await soon(async () => (await by(page, 'selector').count()) === 0, 'none is chosen');
});

testCase('image: a partition is a disk of its own', async (t) => {
    const page = await t.open(viewOf('lab/gce.tar.gz'));
    const rows = by(page, 'partition-row');
    await soon(async () => (await rows.count()) === 2, 'the partitions');
    assert.deepEqual(await rows.nth(1).locator('td').allTextContents(), [bed.labels[1], 'ext4', '49 MiB', '206 MiB', 'Linux filesystem']);
    await rows.nth(0).locator('a').click();
    await hashIs(page, '#/image/lab/gce.tar.gz?partition=1');
    await says(by(page, 'stack').locator('.guest'), /48 MiB, 50,331,648 bytes/);
    await says(by(page, 'hex-status'), SECTOR);
    same(await look(page, '1K', 1024, 512), await bytesOf('disk.raw', MIB + 1024, 512));
    await by(page, 'selector').click();
    await hashIs(page, '#/image/lab/gce.tar.gz');
    await says(by(page, 'stack').locator('.guest'), /256 MiB/);
});

testCase('image: the files of an archive, one by one', async (t) => {
    const page = await t.open(viewOf('lab/box.ova'));
    const rows = by(page, 'member-row');
    await soon(async () => (await rows.count()) === 2, 'the files');
    assert.match(await text(rows.nth(1)), /^box\.vmdkdisk/);
    assert.equal(await rows.nth(0).locator('.chip').count(), 0);
    await rows.nth(0).locator('a').click();
    await hashIs(page, '#/image/lab/box.ova?member=box.ovf');
    await says(by(page, 'selector'), /^member=box\.ovf ✕$/);
    await says(by(page, 'hex-status'), SECTOR);
    const { stdout } = await exec('tar', ['-xOf', `${bed.www}/box.ova`, 'box.ovf']);
    assert((await hexOf(page)).text.startsWith(stdout.slice(0, 80).replaceAll('\n', '·')));
    assert.equal(await text(rows.nth(0).locator('th')), 'box.ovf (shown)');
    await by(page, 'selector').click();
    await hashIs(page, '#/image/lab/box.ova');
    await says(by(page, 'stack').locator('.guest'), /256 MiB/);
});

testCase('image: selectors add up, and each is taken away by itself', async (t) => {
    const page = await t.open(viewOf('lab/gce.tar.gz', { member: 'disk.raw', partition: '2' }));
    const chips = by(page, 'selector');
    await soon(async () => (await chips.allTextContents()).join() === 'member=disk.raw ✕,partition=2 ✕', 'both');
    await says(by(page, 'hex-status'), SECTOR);
    same(await look(page, '1K', 1024, 512), await bytesOf('disk.raw', 49 * MIB + 1024, 512));
    await chips.nth(0).click();
    await hashIs(page, '#/image/lab/gce.tar.gz?partition=2');
    await soon(async () => (await chips.allTextContents()).join() === 'partition=2 ✕', 'one');
});

await run();
