// SPDX-License-Identifier: Apache-2.0
// Asking again, as long as somebody looks.

/** After so many milliseconds, or at once when the view is left. */
export function pause(ms, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(end, ms);
    function end() {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    }
    signal.addEventListener("abort", end);
  });
}

/** ask() now and then, one at a time, until the view is left; not while the page is
 * hidden.  It ends when ask() answers false. */
export async function poll(ms, signal, ask) {
  while (!signal.aborted) {
    if (!document.hidden && (await ask()) === false) return;
    await pause(ms, signal);
  }
}
