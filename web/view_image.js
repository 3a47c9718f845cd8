// SPDX-License-Identifier: Apache-2.0
import {fill, h} from "./dom.js";
export async function showImage(main) {
  fill(main, h("h1", "Image"));
}
