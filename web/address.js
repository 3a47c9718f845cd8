// SPDX-License-Identifier: Apache-2.0
// Fragments of this page: #/image/lab/x.ova?member=a.
import {encodePath, imageOf, SELECTORS} from "./api.js";

/** Where an image of api.imageOf() is shown. */
export function imageHref(image) {
  const parts = Object.entries(image.selectors).map(([k, v]) => `${k}=${encodeURIComponent(v)}`);
  return `#/image/${encodePath(image.path)}${parts.length ? `?${parts.join("&")}` : ""}`;
}

/** The image that a parsed fragment (app.js) names. */
export const imageAt = address => imageOf(address.rest,
  Object.fromEntries(SELECTORS.filter(s => s in address.values).map(s => [s, address.values[s]])));

/** The same image with other selectors; one that is undefined is taken out. */
export const withSelectors = (image, more) => imageOf(image.path,
  Object.fromEntries(Object.entries({...image.selectors, ...more}).filter(([, v]) => v !== undefined)));
