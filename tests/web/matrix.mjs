// SPDX-License-Identifier: Apache-2.0
// One view in the looks that users have: wide and narrow, light and dark, large text.
import { assert } from './harness.mjs';

export const LOOKS = {
    'light-wide': { colorScheme: 'light', viewport: { width: 1280, height: 800 } },
    'dark-wide': { colorScheme: 'dark', viewport: { width: 1280, height: 800 } },
    'light-narrow': { colorScheme: 'light', viewport: { width: 360, height: 740 }, hasTouch: true },
    'dark-narrow': { colorScheme: 'dark', viewport: { width: 360, height: 740 }, hasTouch: true },
    // Twice the text in a window of 1280: WCAG's reflow.
    'zoomed': { colorScheme: 'light', viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 },
    'forced-colors': { colorScheme: 'dark', forcedColors: 'active', viewport: { width: 1280, height: 800 } },
};

// Nothing sticks out of the window sideways, and no text lies on another's.
export async function fits(page) {
    const out = await page.evaluate(() => {
        const w = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth <= w)
            return [];
        // The innermost that stick out, and do not scroll by themselves.
        return [...document.body.querySelectorAll('*')].filter((e) => {
            const r = e.getBoundingClientRect();
            return r.width && r.right > w + 1 && !e.parentElement.closest('[data-scrolls]') &&
                ![...e.children].some((c) => c.getBoundingClientRect().right > w + 1);
        }).map((e) => `${e.outerHTML.slice(0, 140)} to ${Math.round(e.getBoundingClientRect().right)} of ${w}`)
            .concat(`the page is ${document.documentElement.scrollWidth} wide of ${w}`);
    });
    assert.equal(out.length, 0, `${page.url()}\n${out.slice(0, 8).join('\n')}`);
}

// visit(page) leads to the view and waits until it is whole; each look gets a picture
// NAME-LOOK.png, and then(page, look), which may look on.
export async function matrix(t, name, url, visit, then = async () => {}, looks = Object.keys(LOOKS)) {
    for (const look of looks) {
        const page = await t.open(url, LOOKS[look]);
        await visit(page);
        await t.shot(page, `${name}-${look}`);
        await fits(page);
        await then(page, look);
        await page.context().close();
    }
}
