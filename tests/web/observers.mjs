// SPDX-License-Identifier: Apache-2.0
// What moved by itself, and what held the page up.  `init: [observe]` of Case.open().

export function observe() {
    window.__seen = { shifts: [], tasks: [] };
    const where = (n) => n?.nodeType === 1 ? n.outerHTML.slice(0, 100) : n?.textContent?.slice(0, 60) ?? '?';
    new PerformanceObserver((list) => {
        for (const e of list.getEntries())
            // What follows on a click or a key is expected.
            if (!e.hadRecentInput)
                window.__seen.shifts.push({ value: e.value, at: e.startTime,
                    what: e.sources.map((s) => where(s.node)).slice(0, 3) });
    }).observe({ type: 'layout-shift', buffered: true });
    new PerformanceObserver((list) => {
        for (const e of list.getEntries())
            window.__seen.tasks.push({ ms: e.duration, at: e.startTime });
    }).observe({ type: 'longtask', buffered: true });
}

// Observers are told between frames: two of them, and what is there is all.
const settle = () => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 50))));

// Since the page was loaded, or since forget(): {total, rows}; 0.1 is called good.
export async function shifts(page) {
    await page.evaluate(settle);
    const rows = await page.evaluate(() => window.__seen.shifts);
    return { total: rows.reduce((n, s) => n + s.value, 0), rows };
}

// Tasks of 50 ms and more, longest first.
export async function longTasks(page) {
    await page.evaluate(settle);
    return (await page.evaluate(() => window.__seen.tasks)).sort((a, b) => b.ms - a.ms);
}

export async function forget(page) {
    await page.evaluate(settle);
    await page.evaluate(() => { window.__seen.shifts = []; window.__seen.tasks = []; });
}
