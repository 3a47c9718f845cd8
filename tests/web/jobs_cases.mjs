// SPDX-License-Identifier: Apache-2.0
// Check and checksum; and the commands for other programs, which are run as they are.
import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert, bed, run, soon, testCase } from './harness.mjs';
import { MIB, ask, by, bytesOf, digestOf, encode, exec, sameProblem, says, text, viewOf } from './views.mjs';

const LONG = 60000; // a sanitizer's gateway

testCase('jobs: a check finds nothing, or what is there, and says when there is none', async (t) => {
    t.allow(501);
    const page = await t.open(viewOf('lab/base.qcow2'));
    await by(page, 'check').click();
    await says(by(page, 'check-verdict'), /^No errors$/, LONG);
    assert.match(await text(by(page, 'check-result')), /total clusters4,096/);
    await page.goto(viewOf('lab/corrupt.qcow2'));
    await says(by(page, 'image-title'), /corrupt/);
    await by(page, 'check').click();
    const found = await ask('/v1/check/lab/corrupt.qcow2');
    await says(by(page, 'check-verdict'), new RegExp(`^${found.corruptions} errors$`), LONG);
    const rows = await by(page, 'check-result').locator('.findings li').allTextContents();
    assert.equal(rows.length, found.findings.length);
    found.findings.forEach((f, i) => assert(rows[i].startsWith(f.kind) && rows[i].endsWith(f.text), rows[i]));
    await page.goto(viewOf('lab/one.raw'));
    await says(by(page, 'image-title'), /one\.raw/);
    const answer = page.waitForResponse((r) => r.url().includes('/v1/check/'));
    await by(page, 'check').click();
    await sameProblem(by(page, 'check-result'), await answer);
    assert(await by(page, 'check').isEnabled() && !await by(page, 'check-cancel').isVisible());
});

testCase('jobs: a checksum is that of sha256sum and sha512sum', async (t) => {
    const page = await t.open(viewOf('lab/gce.tar.gz'));
    for (const algorithm of ['sha256', 'sha512']) {
        await by(page, 'algorithm').selectOption(algorithm);
        await by(page, 'checksum').click();
        const { stdout } = await exec(`${algorithm}sum`, [`${bed.www}/disk.raw`]);
        await says(by(page, 'digest'), new RegExp(`^${stdout.split(' ')[0]}$`), LONG);
    }
});

testCase('jobs: a checksum tells how far it is, is cancelled, and begun again', async (t) => {
    const page = await t.open(viewOf('slow/base.qcow2'));
    const status = by(page, 'checksum-status'), bar = page.locator('progress[aria-label="Compute the digest"]');
    await by(page, 'checksum').click();
    await says(status, /^[\d.]+ [KM]iB of 256 MiB \([\d.]+ %\), .*\/s$/);
    assert(await by(page, 'checksum').isDisabled());
    const at = () => bar.evaluate((e) => e.position);
    const first = await at();
    await soon(async () => await at() > first, 'it goes on');
    await by(page, 'checksum-cancel').click();
    await says(status, /^Cancelled$/);
    assert(await by(page, 'checksum').isEnabled() && !await bar.isVisible());
    assert.equal(await text(by(page, 'checksum-result')), '');
    await by(page, 'checksum').click();
    await says(status, / of 256 MiB /);
    await by(page, 'checksum-cancel').click();
    await says(status, /^Cancelled$/);
});

testCase('jobs: an encrypted image without its key says what is missing; with it, it is read', async (t) => {
    t.allow(403);
    const page = await t.open(viewOf('lab/luks.qcow2'));
    const boxes = by(page, 'problem');
    await soon(async () => (await boxes.allTextContents()).some((s) => /encrypted \(LUKS\), and no secret was named/.test(s)), 'why');
    assert.match(await text(by(page, 'stack')), /encrypted ?yes/);
    await by(page, 'checksum').click(); // an event of its stream says why
    await says(by(page, 'checksum-result'), /not allowed by policy: encrypted.*status 403.*request [0-9a-f]{16}/);
    await page.goto(viewOf('lab/luks.qcow2', { secret: bed.secret }));
    await says(by(page, 'selector'), /^secret=disk-key ✕$/);
    await by(page, 'hex-offset').fill('1M');
    await by(page, 'hex-go').click();
    await says(by(page, 'hex-status'), /^Sector 2,048 at 1 MiB/);
    assert.match(await text(by(page, 'hex').locator('tbody tr').first()), /05 05 05 05/);
    assert.equal(await boxes.count(), 0);
});

// ---- Commands ----

const TITLES = { sector: /^curl: the first/, whole: /^curl: the whole/, wget: /^wget/, convert: /^qemu-img/,
    boot: /^QEMU/, nbdkit: /^nbdkit/, guestfish: /^guestfish/, ipxe: /^iPXE/ };

async function commandsOf(page) {
    await by(page, 'command').first().waitFor();
    const titles = await page.locator('.command-head h3').allTextContents();
    const lines = await by(page, 'command').allTextContents();
    return Object.fromEntries(Object.entries(TITLES).map(([k, title]) => [k, lines[titles.findIndex((s) => title.test(s))]]));
}

async function inFolder(fn) {
    const folder = await mkdtemp(join(tmpdir(), 'platter-commands-'));
    try {
        await fn(folder);
    } finally {
        await rm(folder, { recursive: true });
    }
}

const shell = (line, cwd, seconds = 60) => exec('bash', ['-c', line], { cwd, timeout: seconds * 1000, maxBuffer: 64 * MIB,
    killSignal: 'SIGKILL' });

// The words that a shell makes of a line for its program.
async function words(line, program, cwd) {
    const { stdout } = await shell(`${program}() { printf '%s\\0' "$@"; }\n${line}`, cwd);
    return stdout.split('\0').slice(0, -1);
}

// Images whose names, members and snapshots are meant to hurt a shell; each with a file
// that has the same bytes.
const REFS = [
    ...Object.values(bed.hostile ?? {}).map((name) => [`lab/${name}`, {}, 'one.raw']),
    ...Object.values(bed.hostile ?? {}).map((name) => ['lab/hostile.tar', { member: name }, 'one.raw']),
    ['lab/two.tar', { member: 'one.raw' }, 'one.raw'],
];
// Nothing in it is a shell's or anybody's own.
const strict = (encoded) => encoded.replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const urlOf = (ref, selectors) => `${bed.main}/disk/` + strict(encode(ref) +
    Object.entries(selectors).map(([k, v]) => `;${k}=${encodeURIComponent(v)}`).join(''));

testCase('commands: what is copied is what is shown', async (t) => {
    const page = await t.open(viewOf('lab/hostile.tar', { member: bed.hostile.quotes }),
        { permissions: ['clipboard-read', 'clipboard-write'] });
    const lines = by(page, 'command');
    await lines.first().waitFor();
    assert.equal(await lines.count(), Object.keys(TITLES).length);
    for (let i = 0; i < await lines.count(); i++) {
        const copy = by(page, 'copy').nth(i);
        await copy.click();
        await says(copy, /^Copied$/);
        assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await lines.nth(i).textContent());
    }
});

testCase('commands: where copying is not allowed, the line is selected', async (t) => {
    const page = await t.open(viewOf('lab/one.raw'), { init: [() => {
        if (navigator.clipboard) // not in the empty page before
            navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
    }] });
    await by(page, 'copy').nth(2).click();
    await says(by(page, 'copy').nth(2), /^Selected$/);
    assert.equal(await page.evaluate(() => getSelection().toString()), await by(page, 'command').nth(2).textContent());
});

testCase('commands: curl and wget get the disk, whatever it is called', async (t) => {
    const wanted = await digestOf(`${bed.www}/one.raw`), head = await bytesOf('one.raw', 0, 512);
    const page = await t.open(bed.main + '/#/');
    for (const [ref, selectors] of REFS)
        await inFolder(async (folder) => {
            await page.goto(viewOf(ref, selectors));
            await says(by(page, 'image-title'), /./);
            await soon(async () => (await commandsOf(page)).sector.includes(selectors.member === undefined
                ? strict(encode(ref)) : strict(encodeURIComponent(selectors.member))), 'its own commands');
            const lines = await commandsOf(page);
            const { stdout } = await shell(lines.sector, folder);
            const dump = stdout.split('\n').slice(0, 32).flatMap((row) => row.slice(10, 58).trim().split(/\s+/)).map((b) => parseInt(b, 16));
            assert.deepEqual(dump, [...head], lines.sector);
            for (const line of [lines.whole, lines.wget]) {
                await shell(line, folder);
                const [name, ...more] = await readdir(folder);
                assert.deepEqual(more, []);
                assert.match(name, /^[\w.][\w.-]*\.raw$/);
                assert.equal(await digestOf(join(folder, name)), wanted, line);
                // It goes on where it ended.
                await truncate(join(folder, name), 700001);
                await shell(line, folder);
                assert.equal(await digestOf(join(folder, name)), wanted, line);
                await rm(join(folder, name));
            }
        });
});

for (const [ref, selectors] of [REFS[2], [REFS[3][0], REFS[3][1]], ['lab/hostile.tar', { member: bed.hostile?.quotes }]])
    testCase(`commands: qemu-img, nbdkit and QEMU open ${ref} ${JSON.stringify(selectors)}`, async (t) => {
        const page = await t.open(viewOf(ref, selectors));
        const lines = await commandsOf(page);
        await inFolder(async (folder) => {
            // QEMU 7.2's own HTTP client stalls for good now and then, with any server.
            for (let i = 0; ; i++) {
                const done = await shell(lines.convert, folder, 20).then(() => true, (e) => {
                    assert(e.killed && i < 3, `${e.stderr ?? e}`);
                });
                if (done)
                    break;
            }
            await exec('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', join(folder, 'disk.qcow2'), `${bed.www}/one.raw`]);
            const { stdout } = await shell(lines.nbdkit, folder);
            assert.match(stdout, /export-size: 2097152/);
            // Stopped before its first instruction, and asked what it has.
            const qemu = await shell(`qemu-system-x86_64() { command qemu-system-x86_64 "$@" -S -accel tcg -display none -monitor stdio <<< $'info block\\nquit'; }
${lines.boot}`, folder);
            assert.match(qemu.stdout, /virtio0/);
        });
    });

testCase('commands: every program gets the address as one word', async (t) => {
    const refs = [...REFS, ['lab/top.qcow2', { snapshot: bed.snapshots[1], partition: '1' }], ['golden', {}]];
    for (const [ref, selectors] of refs) {
        const url = urlOf(ref, selectors), own = await t.open(viewOf(ref, selectors)), lines = await commandsOf(own);
        const last = async (line, program) => (await words(line, program, tmpdir())).find((w) => w.includes('://'));
        assert.equal(await last(lines.guestfish, 'guestfish'), url);
        assert.equal(await last(lines.convert, 'qemu-img'), url);
        assert.equal(await last(lines.wget, 'wget'), url);
        assert.equal(await last(lines.nbdkit, 'nbdkit'), `url=${url}`);
        assert.equal(await last(lines.boot, 'qemu-system-x86_64'), `file=${url.replaceAll(',', ',,')},format=raw,if=virtio`);
        assert.equal(lines.ipxe, `sanboot ${url}`);
        await own.context().close();
    }
});

await run();
