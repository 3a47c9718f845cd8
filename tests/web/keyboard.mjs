// SPDX-License-Identifier: Apache-2.0
// A walk through a page with Tab alone.
import { assert } from './harness.mjs';

// How things look while nothing is focused, to compare with.
function begin() {
    const look = (e) => {
        const s = getComputedStyle(e);
        return [s.outlineStyle === 'none' ? '' : s.outlineWidth + s.outlineColor, s.boxShadow,
            s.borderColor, s.borderWidth, s.backgroundColor, s.textDecorationLine].join('|');
    };
    // A label or a cell may show it for a field within it.
    const looks = (e) => [e, e.parentElement, e.parentElement?.parentElement].filter(Boolean).map(look).join();
    document.activeElement?.blur();
    window.__walk = { times: new Map(), looks, plain: new Map() };
    for (const e of document.querySelectorAll('a, button, input, select, textarea, summary, [tabindex]'))
        window.__walk.plain.set(e, looks(e));
    // From the very beginning, wherever somebody clicked before.
    const start = document.createElement('span');
    start.tabIndex = -1;
    document.body.prepend(start);
    start.focus();
    start.remove();
}

// Of the focused element, and how it looks.
function describe() {
    const e = document.activeElement, walk = window.__walk;
    if (!e || e === document.body || e === document.documentElement)
        return null;
    walk.times.set(e, (walk.times.get(e) ?? 0) + 1);
    const r = e.getBoundingClientRect();
    return {
        name: e.getAttribute('data-testid') ?? e.id ?? '',
        html: e.outerHTML.slice(0, 120), tag: e.tagName.toLowerCase(),
        text: (e.getAttribute('aria-label') ?? e.textContent ?? '').trim().slice(0, 60),
        times: walk.times.get(e), first: walk.times.keys().next().value === e,
        seen: r.width > 0 && r.height > 0 && r.bottom > 0 && r.right > 0 &&
            r.top < innerHeight && r.left < innerWidth,
        // One that came later has nothing to be compared with: the browser's own ring, then.
        marked: walk.plain.has(e) ? walk.looks(e) !== walk.plain.get(e) :
            getComputedStyle(e).outlineStyle !== 'none',
    };
}

// What can be acted on, is shown, and was not reached.
function missed() {
    const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    return [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
        .filter((e) => !e.disabled && e.tabIndex >= 0 && shown(e) && !e.closest('[inert], dialog:not([open])') &&
            !window.__walk.times.has(e) &&
            // one of a group of radio buttons stands for all
            !(e.type === 'radio' && [...document.getElementsByName(e.name)].some((o) => window.__walk.times.has(o))))
        .map((e) => e.outerHTML.slice(0, 120));
}

// Steps through the page from its beginning: what was focused, in order.  Fails where the
// focus cannot be seen, is caught, or passes by something.
export async function walk(page, limit = 300) {
    await page.evaluate(begin);
    const steps = [];
    for (;;) {
        await page.keyboard.press('Tab');
        const at = await page.evaluate(describe);
        if (!at || (at.times > 1 && at.first && steps.length > 1))
            break; // through, or around
        assert(at.times === 1, `the focus is caught at ${at.html}`);
        assert(at.seen, `focused, and not to be seen: ${at.html}`);
        assert(at.marked, `nothing shows that it is focused: ${at.html}`);
        steps.push(at);
        assert(steps.length < limit, `more than ${limit} steps`);
    }
    assert(steps.length > 0, 'nothing takes the focus');
    const left = await page.evaluate(missed);
    assert.equal(left.length, 0, `not reached with Tab:\n${left.slice(0, 6).join('\n')}`);
    return steps;
}
