// SPDX-License-Identifier: Apache-2.0
// axe-core on a page as it stands.  WCAG 2.2 A and AA, and axe's own best practices.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { assert } from './harness.mjs';

const source = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

// Fails with what is wrong and where.  where: a selector, for a part of the page.
// Called by the debugger's protocol, so that the page's policy need not allow it.
export async function accessible(page, where) {
    if (!await page.evaluate(() => 'axe' in window)) {
        const session = await page.context().newCDPSession(page);
        const r = await session.send('Runtime.evaluate', { expression: source });
        assert.equal(r.exceptionDetails, undefined, JSON.stringify(r.exceptionDetails));
        await session.detach();
    }
    const result = await page.evaluate(([at, tags]) => window.axe.run(at ?? document, {
        runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'],
    }), [where ?? null, TAGS]);
    assert(result.passes.length > 5, 'axe found nothing to look at');
    const found = result.violations.map((v) => `${v.id} (${v.impact}): ${v.help}` +
        v.nodes.slice(0, 4).map((n) => `\n  ${n.html.slice(0, 160)}\n    ${n.failureSummary.replaceAll('\n', ' ')}`).join(''));
    assert.equal(found.length, 0, `${page.url()}\n${found.join('\n')}`);
}
